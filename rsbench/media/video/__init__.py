"""Read clips by exact presentation time, and write videos: the only file that imports av.

What a reader may rely on:

- A video's frames are those that its decoder gives when the whole file is decoded, in order of
  presentation time (frames of equal time in decoder order). What a header claims is never used to
  count. n is the number of frames in the asked window; the sampler is applied to that n.
- To find them without decoding all, the packets are asked what they promise (`index`,
  `bitstreams`), and only those that the chosen frames need are decoded. Each of these must give
  exactly its frame, whole, of the declared size and in its turn. Whenever one does not, and
  whenever the packets promise nothing (an unlisted codec, missing time stamps, damage that the
  container admits), the whole file is decoded instead. So what is read follows from the bytes of
  the file and the arguments, whatever index is kept; it is what a decoding of the whole file gives;
  and of one kind of file only can n be another: one that is damaged inside packets that the
  asked frames do not need, of which n counts what the packets promise.
- Where a picture is damaged and its decoder does not say so (VP8, MJPEG), it may show remains of
  what was decoded before it, and so depend on what else was asked for.
- Where a frame has no time stamp, or the stamps would move one further than any decoder reorders
  (a recording whose clock was set back), the decoder's order stands, and missing times are filled
  in evenly.
- Seconds are counted from the first frame presented, and compared as whole microseconds, so that a
  bound written as 7/30 in floating point is the frame shown at 7/30.
- Colours are converted by the frame's own matrix and range (BT.601 and limited range where the file
  says nothing); `conversion` says exactly to which pixels: for 8-bit 4:2:0 and 4:2:2 of even size
  those that the ffmpeg program gives by default. Alpha is dropped.
- Display matrices (rotations by multiples of 90 degrees, mirrors) are applied. Sample aspect ratios
  are not: a pixel of the file is a pixel of the array. A frame of another size than the first is
  scaled to the first one's, as ffmpeg does.
- One thread decodes, so that a loader may run many processes.

A packet that does not decode is passed over, as players do; a file without any frame is a
`MediaError`, and so is everything else in its bytes that stops a file from being read. A machine
that can't read just now (too many open files, no memory, a disk that fails) is an `OSError`: it
says nothing about the file.

What is odd about a file is remarked, a tail that is missing wherever the container tells: frames
that it counts (MP4, AVI), or a duration of Matroska, WebM, or FLV without sound. A transport stream
and a bare stream declare no length, so that one cut between two packets looks whole.

Letters: N clips, T frames a clip, H height, W width.
"""

from __future__ import annotations

from rsbench.media.video.conversion import CONVERSION_VERSION, Kept, Pixels, Transform
from rsbench.media.video.opening import MAX_FRAME_PIXELS
from rsbench.media.video.reading import (
    Choose,
    Clips,
    count_frames,
    decoder_version,
    read_all_frames,
    read_clips,
)
from rsbench.media.video.timeline import DEFAULT_FPS, Indices
from rsbench.media.video.writing import write_video

__all__ = [
    "CONVERSION_VERSION",
    "DEFAULT_FPS",
    "MAX_FRAME_PIXELS",
    "Choose",
    "Clips",
    "Indices",
    "Kept",
    "Pixels",
    "Transform",
    "count_frames",
    "decoder_version",
    "read_all_frames",
    "read_clips",
    "write_video",
]
