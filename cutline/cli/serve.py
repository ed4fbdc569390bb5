"""`cutline serve`."""

from typing import TYPE_CHECKING, Annotated

from cutline.cli.console import print_message
from cutline.cli.flags import BatchedDeviceFlags, Flags, MatcherFlags, ModelFlags
from cutline.config import DeviceConfig, ServeConfig, ServeLimits, UrlPolicy
from cutline.errors import ConfigError

if TYPE_CHECKING:
    from cutline.serving.service import ServedModels


def serve_command(
    *,
    server: Annotated[ServeConfig, Flags] = ServeConfig(),
    limits: Annotated[ServeLimits, Flags] = ServeLimits(),
    model: Annotated[ModelFlags, Flags] = ModelFlags(),
    matcher: Annotated[MatcherFlags, Flags] = MatcherFlags(),
    inference: Annotated[BatchedDeviceFlags, Flags] = BatchedDeviceFlags(),
    urls: Annotated[UrlPolicy, Flags] = UrlPolicy(),
) -> int:
    """Serve a captioner over HTTP: a page for people, and an API for programs.

    The API has routes of its own, and those that clients of OpenAI, Ollama, AUTOMATIC1111 and
    Hugging Face call. SIGTERM or Ctrl-C stop the server after the last request, again at once.

    Examples:
        cutline serve --model runs/my-run

        curl -F images=@photo.jpg http://127.0.0.1:8000/v1/captions

        cutline serve --model large.pth --host 0.0.0.0 --token-file tokens.txt
    """
    check_packages()
    from cutline.serving.server import run_server
    from cutline.serving.service import CaptionService, choose_model_name

    name = server.served_model_name or choose_model_name(model.name)
    service = CaptionService(name, server, limits, urls)

    def load_models() -> "ServedModels":
        return load_served(server, model, matcher, inference)

    run_server(service, load_models, inference.batch_size, print_message)
    return 0


def check_packages() -> None:
    """Raise ConfigError if a package of the server is not installed."""
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the server needs {error.name}, which is not installed: pip install 'cutline[serve]'"
        ) from None


def load_served(
    server: ServeConfig, model: ModelFlags, matcher: MatcherFlags, device: DeviceConfig
) -> "ServedModels":
    """Load what the server needs."""
    from cutline.captioner import load
    from cutline.serving.service import ServedModels

    captioner = load(model.name, **device.device_arguments, **model.arguments)
    if server.explanations:
        _ = captioner.eager_copy  # loaded now, not by the first request
    return ServedModels(captioner, matcher.load(device) if matcher.matcher else None)
