"""The page of `conv-dlm demo`, as a Space starts it: the embedded model, where Gradio's environment says."""

from conv_dlm.answering.embedded import EMBEDDED_NAME
from conv_dlm.demo.page import serve

if __name__ == "__main__":
    serve([EMBEDDED_NAME])
