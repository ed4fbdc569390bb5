"""Serve a captioner with FastAPI and transformers, one request at a time, as tutorials do.

    python benchmarks/plain_server.py MODEL

`serve.py` measures it beside cutline. It prints its address to stderr.
"""

import io
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
import uvicorn
from fastapi import FastAPI, UploadFile
from PIL import Image

from cutline.config import ServeConfig
from cutline.serving.server import format_address, listen

PROMPT = "a picture of"


class PlainCaptioner:
    """A captioner of transformers, with the settings that cutline has by default."""

    def __init__(self, folder: Path) -> None:
        logging: Any = transformers.utils.logging
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        self._processor: Any = transformers.BlipProcessor.from_pretrained(folder)
        blip: Any = transformers.BlipForConditionalGeneration
        self._model = blip.from_pretrained(folder).eval()

    @torch.inference_mode()
    def caption(self, data: bytes) -> str:
        """Return the caption of an image file, without the prompt."""
        image = Image.open(io.BytesIO(data)).convert("RGB")
        inputs = self._processor(image, PROMPT, return_tensors="pt")
        rows = self._model.generate(**inputs, num_beams=3, max_length=20, min_length=5)
        text: str = self._processor.decode(rows[0], skip_special_tokens=True)
        return text.removeprefix(PROMPT).strip()


def make_plain_app(captioner: PlainCaptioner) -> FastAPI:
    """Return the application."""
    app = FastAPI()

    @app.get("/readyz")
    async def check_readiness() -> dict[str, str]:
        return {"status": "ready"}

    @app.post("/caption")
    async def create_caption(images: UploadFile) -> dict[str, str]:
        # The event loop waits for the model, so there is one request at a time.
        return {"text": captioner.caption(await images.read())}

    return app


def main() -> None:
    """Serve until a signal comes."""
    captioner = PlainCaptioner(Path(sys.argv[1]))
    config = ServeConfig(port=0)
    listener = listen(config)
    sys.stderr.write(f"listening at {format_address(config, listener)}\n")
    sys.stderr.flush()
    server = uvicorn.Server(uvicorn.Config(make_plain_app(captioner), log_level="critical"))
    server.run(sockets=[listener])


if __name__ == "__main__":
    main()
