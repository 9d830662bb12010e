"""Pictures and clips: which frames, read exactly, resized and cropped.

`sampling` says which frames make a clip, `video` and `image` read and write files, `resizers` cuts
frames to the size of a network as four other projects do, `transforms` makes network input of that,
`barcode` makes videos that prove which frame is which.
"""
