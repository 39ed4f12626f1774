"""`invad-pipe serve`: a model as an HTTP service."""

import sys
from typing import Annotated

import typer

from invad.cli.options import ClassOption, DeviceOption, ModelArgument, PixelThresholdOption, ThresholdOption
from invad.predict.serve import Limits


def serve(
    model: ModelArgument,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 8000,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A further name that clients may call the service by; repeatable. None and a --host that is not local: any.",
        ),
    ] = None,
    class_name: ClassOption = None,
    threshold: ThresholdOption = None,
    pixel_threshold: PixelThresholdOption = None,
    device: DeviceOption = None,
    max_bytes: Annotated[int, typer.Option(help="The longest body.", min=1)] = Limits.max_bytes,
    max_pixels: Annotated[int, typer.Option(help="The largest image.", min=1)] = Limits.max_pixels,
    queue: Annotated[int, typer.Option(help="Requests in progress or waiting; more get a 429.", min=1)] = Limits.queue,
    timeout: Annotated[float, typer.Option(help="Seconds from a request to its answer.", min=0.1)] = Limits.timeout,
    batch_size: Annotated[int, typer.Option(help="Images in the network at a time.", min=1)] = Limits.batch_size,
    batch_wait: Annotated[
        float, typer.Option(help="Milliseconds that an image waits for others to share its batch.", min=0)
    ] = 1000 * Limits.batch_wait,
    connections: Annotated[
        int,
        typer.Option(help="Open connections, at most half as many as files; with more, an idle one goes.", min=1),
    ] = Limits.connections,
) -> None:
    """Serve a model: POST an image to /predict, or drop one on the page at /.

    The answer has score, decision and regions; /health and /metrics are for
    operators. SIGTERM or Ctrl-C ends it when what was taken is answered.
    """
    import numpy as np

    from invad.metrics.calibration import Thresholds
    from invad.predict.predictor import load_predictor
    from invad.predict.serve.server import LOCAL_NAMES, address, bind, is_local, run
    from invad.predict.serve.service import Service

    limits = Limits(max_bytes, max_pixels, queue, timeout, batch_size, batch_wait / 1000, connections)
    with bind(host, port) as listener:
        predictor = load_predictor(
            model, class_name=class_name, device=device, thresholds=Thresholds(threshold, pixel_threshold)
        )
        predictor.predict(np.zeros((1, 1, 3), np.uint8))  # the first one is slow, or fails
        service = Service(predictor, model.resolve().name, limits)
        names = frozenset(name.lower() for name in allow_host or ())
        hosts = LOCAL_NAMES | names if names or is_local(listener) else None
        if not is_local(listener):
            print(
                f"warning: --host {host}: others can reach the service, which asks nobody who they are; put a reverse proxy before it",
                file=sys.stderr,
            )
        print(f"{model} on {address(listener)}, {predictor.device} (end with Ctrl-C)", file=sys.stderr, flush=True)
        run(service, listener, hosts)
