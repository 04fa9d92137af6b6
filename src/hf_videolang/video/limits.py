"""What a video from strangers may cost. Each limit is far above honest videos."""

import os

# Pixels of a picture. A video or picture with more is refused before a picture is allocated.
MAX_PIXELS = int(os.environ.get("HF_VIDEOLANG_MAX_PIXELS", 1 << 26))
MAX_PACKETS = 1 << 23  # that a file may declare; 38 hours at 60 frames per second
HELPER_MEMORY = 4 << 30  # bytes of the process that decodes
MAX_DOWNLOAD = 32 << 30  # bytes
DOWNLOAD_DEADLINE = 6 * 3600  # seconds for a whole download
SUBFILE = "subfile,"  # FFmpeg's protocol for a part of a file, beside the protocol of files the only one allowed
# FFmpeg's formats that hold their pictures themselves. Playlists, lists and sequences of files would open other paths.
FORMATS = (
    "3gp,apng,asf,av1,avi,bmp_pipe,dv,flv,gif,h261,h263,h264,hevc,ivf,jpeg_pipe,live_flv,m4v,matroska,mjpeg,mov,mp3,"
    "mpeg,mpegts,mpegvideo,mxf,nut,obu,ogg,png_pipe,rm,tiff_pipe,vc1,vvc,webp_pipe,wtv,yuv4mpegpipe"
)
