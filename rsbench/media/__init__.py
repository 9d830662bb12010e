"""Pictures and clips: which frames, read exactly, resized and cropped, always uint8.

`sampling` says which frames make a clip, `video` and `image` read and write files, `transforms`
turns frames into network input, `barcode` makes videos that prove which frame is which.
"""
