"""Import of weights that are named as in the authors' checkpoints."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from invad.errors import InputError
from invad.methods.invad.layers import (
    ActivatedConv,
    ConvNorm,
    ResidualBlock,
    SpaceAwareConv2d,
    UpsamplingConv2d,
    of_kind,
)
from invad.methods.invad.network import FeatureInversion
from invad.methods.invad.style import Aggregation, RescalingUpsampler

ENCODER_PREFIX = "net_encoder."
EXAMPLES = 4  # names listed in an error before "and N more"


def load_reference_state(model: FeatureInversion, state: Mapping[str, Tensor]) -> None:
    """Load weights under the authors' names into `model`, whole or not at all.

    `net_encoder.*` is ignored; the `kernel` buffers of the fixed blur are compared, not loaded; a BatchNorm's
    `num_batches_tracked` may be absent. Raises `InputError` that names the tensors which are missing, unexpected or of
    another shape, or when `model` is not the paper's network but an ablation of it.
    """
    if model.ablations:
        switches = ", ".join(f"{name}={value!r}" for name, value in model.ablations.items())
        raise InputError(
            f"model: the authors' weights fit the paper's network only, this one was built with {switches}"
        )
    targets = reference_tensors(model)
    sources = {name: tensor for name, tensor in state.items() if not name.startswith(ENCODER_PREFIX)}
    problems = list(_problems(targets, sources))
    if problems:
        raise InputError(f"weights under the authors' names do not fit the model: {'; '.join(problems)}")
    with torch.no_grad():
        for name, source in sources.items():
            if not name.endswith(".kernel"):
                targets[name].copy_(source.reshape(targets[name].shape))


def reference_tensors(model: FeatureInversion) -> dict[str, Tensor]:
    """Every parameter and buffer of the paper's network `model` under its name in the authors' checkpoints."""
    tensors: dict[str, Tensor] = {"net_decoder.input.input": model.decoder.constant}
    for prefix, module in _reference_modules(model):
        for name, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
            tensors[f"{prefix}.{name}"] = tensor
    return tensors


def _problems(targets: Mapping[str, Tensor], sources: Mapping[str, Tensor]) -> Iterator[str]:
    """What keeps `sources` from being loaded into `targets`, one phrase for each kind of problem."""
    missing = [name for name in targets if name not in sources and not name.endswith(".num_batches_tracked")]
    unexpected = [name for name in sources if name not in targets]
    shared = [name for name in targets if name in sources]
    no_tensor = [name for name in shared if not isinstance(sources[name], Tensor)]
    shared = [name for name in shared if name not in no_tensor]
    shapes = {name: (_authors_shape(name, targets[name]), tuple(sources[name].shape)) for name in shared}
    misshaped = [f"{name} {got} instead of {expected}" for name, (expected, got) in shapes.items() if expected != got]
    kernels = [name for name in shared if name.endswith(".kernel") and shapes[name][0] == shapes[name][1]]
    other_blur = [name for name in kernels if not torch.allclose(sources[name].to(targets[name]), targets[name])]
    found = {
        "missing": missing,
        "unexpected": unexpected,
        "not a tensor": no_tensor,
        "wrong shape": misshaped,
        "not the blur [1, 3, 3, 1]": other_blur,
    }
    for kind, names in found.items():
        if names:
            more = f" and {len(names) - EXAMPLES} more" if len(names) > EXAMPLES else ""
            yield f"{kind}: {', '.join(names[:EXAMPLES])}{more}"


def _authors_shape(name: str, tensor: Tensor) -> tuple[int, ...]:
    """The shape in a checkpoint, where weights of SSM convolutions have a leading 1 for the sample."""
    is_ssm_weight = name.startswith("net_decoder.convs.") and name.endswith(
        (".conv1.conv.weight", ".conv2.conv.weight")
    )
    return (1, *tensor.shape) if is_ssm_weight else tuple(tensor.shape)


def _reference_modules(model: FeatureInversion) -> Iterator[tuple[str, nn.Module]]:
    """Modules that hold tensors of their own, with the authors' prefix."""
    aggregation, upsampler, translator, decoder = (
        model.aggregation,
        model.upsampler,
        model.style_translator,
        model.decoder,
    )
    if not isinstance(aggregation, Aggregation) or not isinstance(upsampler, RescalingUpsampler) or translator is None:
        raise TypeError("model: an ablation of the paper's network")
    for level, downsampler in enumerate(of_kind(ConvNorm, aggregation.downsamplers)):
        yield f"net_fuser.downsamples.{level}.conv", downsampler.conv
        yield f"net_fuser.downsamples.{level}.norm", downsampler.norm
    yield "net_fuser.conv_cat.conv", aggregation.squeeze.projection.conv
    yield "net_fuser.conv_cat.norm", aggregation.squeeze.projection.norm
    for name, module in aggregation.squeeze.bottleneck.named_children():
        yield f"net_fuser.conv_bottle.0.{name}", module
    for level, stage in enumerate(upsampler.stages):
        for index, layer in enumerate(of_kind(ActivatedConv, stage.children())):
            yield from _activated_conv(f"net_fuser.convs.{level}.{index}", layer)
    yield from _activated_conv("net_decoder.conv1.0", decoder.stem)
    for level, stage in enumerate(translator.levels):
        for index, layer in enumerate(of_kind(ActivatedConv, stage.children())):
            yield from _activated_conv(f"net_decoder.convs_latent.{level}.{index}", layer)
    for level, blocks in enumerate(decoder.levels):
        for index, block in enumerate(of_kind(ResidualBlock, blocks.children())):
            yield from _residual_block(f"net_decoder.convs.{level}.{index}", block)


def _activated_conv(prefix: str, layer: ActivatedConv) -> Iterator[tuple[str, nn.Module]]:
    modules = [layer.convolution, *_blurs(layer.convolution), layer.activation]
    for index, module in enumerate(modules):
        yield f"{prefix}.{index}", module


def _residual_block(prefix: str, block: ResidualBlock) -> Iterator[tuple[str, nn.Module]]:
    yield from _ssm(f"{prefix}.conv1", block.ssm1)
    yield from _ssm(f"{prefix}.conv2", block.ssm2)
    for index, module in enumerate([block.skip, *_blurs(block.skip)]):
        yield f"{prefix}.skip.{index}", module


def _ssm(prefix: str, ssm: SpaceAwareConv2d) -> Iterator[tuple[str, nn.Module]]:
    yield f"{prefix}.conv", ssm.convolution
    for blur in _blurs(ssm.convolution):
        yield f"{prefix}.conv.blur", blur
    if ssm.modulation is not None:
        for name, module in ssm.modulation.named_children():
            yield f"{prefix}.conv.{name}", module
    yield f"{prefix}.activate", ssm.activation


def _blurs(convolution: nn.Module) -> list[nn.Module]:
    return [convolution.blur] if isinstance(convolution, UpsamplingConv2d) else []
