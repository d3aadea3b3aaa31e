"""The live page: a canvas denoised before one's eyes. It needs the extra `demo`."""
