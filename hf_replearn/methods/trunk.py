"""What methods on images share: a timm encoder f and its feature maps, a head g, two views in one pass, rows of all
processes.

It travels with the weights: saving a model copies this file beside the files of its method (`save_pretrained`).

B images of this process, V views, N rows of all processes, D features, P projected features
"""

import copy
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
import torch.distributed as dist
from huggingface_hub.dataclasses import strict
from timm.models import generate_default_cfgs, register_model
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForPreTraining, PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import ModelOutput

DENSE, CONV4 = "dense", "conv4"
OWN = (DENSE, CONV4)  # the architectures that are not timm's
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class Dense(nn.Module):
    """A network of fully connected layers, by the name DENSE among timm's architectures: (B, C, S, S) -> (B, D).

    widths:     of its layers, the last one D.
    activation: after each layer: "relu"; or "none", of a linear map.
    """

    def __init__(self, widths: list[int], activation: str, channels: int, size: int):
        super().__init__()
        if activation not in ("relu", "none") or not widths or min(widths) < 1:
            raise ValueError(f"widths {widths}, activation {activation!r}: one width or more, and relu or none")
        self.widths, self.channels, self.size, self.num_features = list(widths), channels, size, widths[-1]
        layers: list[nn.Module] = [nn.Flatten()]
        for before, width in zip([channels * size**2, *widths], widths, strict=False):
            layers += [nn.Linear(before, width), *([nn.ReLU()] if activation == "relu" else [])]
        self.layers = nn.Sequential(*layers)

    def forward(self, pixel_values: Tensor) -> Tensor:
        if pixel_values.shape[1:] != (self.channels, self.size, self.size):
            raise ValueError(f"it takes images of {(self.channels, self.size, self.size)}")
        return self.layers(pixel_values)


def dense(  # noqa: PLR0913 (timm passes the first four)
    pretrained=False,
    pretrained_cfg=None,
    pretrained_cfg_overlay=None,
    cache_dir=None,
    num_classes: int = 0,
    widths: tuple[int, ...] = (400,),
    activation: str = "relu",
    in_chans: int = 3,
    img_size: int = 28,
) -> Dense:
    """`Dense`, as timm makes it. There are no weights to be had, and it has no classifier."""
    return Dense(list(widths), activation, in_chans, img_size)


class Conv4(nn.Module):
    """The network of the papers on learning from few examples (Vinyals et al. 2016; Snell et al. 2017), by the name
    CONV4 among timm's architectures: four blocks of a 3 x 3 convolution, batch normalisation, ReLU and 2 x 2 max
    pooling, whose last maps are the features: (B, C, S, S) -> (B, width (S // 16)²)."""

    def __init__(self, width: int, channels: int, size: int):
        super().__init__()
        if size < 16 or width < 1:
            raise ValueError(f"images of {size} pixels, {width} channels of a layer: 16 pixels or more, and a channel")
        self.channels, self.size, self.num_features = channels, size, width * (size // 16) ** 2
        blocks = []
        for before in (channels, width, width, width):
            block = nn.Conv2d(before, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)
            blocks.append(nn.Sequential(*block))
        self.blocks = nn.Sequential(*blocks)

    def forward(self, pixel_values: Tensor) -> Tensor:
        if pixel_values.shape[1:] != (self.channels, self.size, self.size):
            raise ValueError(f"it takes images of {(self.channels, self.size, self.size)}")
        return self.blocks(pixel_values).flatten(1)


def conv4(
    pretrained=False,
    pretrained_cfg=None,
    pretrained_cfg_overlay=None,
    cache_dir=None,
    num_classes: int = 0,
    width: int = 64,
    in_chans: int = 3,
    img_size: int = 28,
) -> Conv4:
    """`Conv4`, as timm makes it. There are no weights to be had, and it has no classifier."""
    return Conv4(width, in_chans, img_size)


# Where timm looks for it. Levels from 0 to 1 are not normalised further; for the convolutions white is 0, as is what
# they take to lie beyond an edge: on characters it is paper, and not a frame of ink.
default_cfgs = generate_default_cfgs(
    {
        name: {"input_size": (3, 28, 28), "fixed_input_size": True, "mean": (white,) * 3, "std": (1, 1, 1)}
        for name, white in ((DENSE, 0), (CONV4, 1))
    }
)
for network in (dense, conv4):
    if not timm.is_model(network.__name__):  # another copy of this file, which travels, may have been read before
        register_model(network)


@strict
class ImageMethodConfig(PreTrainedConfig):
    """What rebuilds the encoder; a method adds what rebuilds its head, and the numbers of its loss.

    Of a method, `model_type` is the name of its folder and files; its classes begin with the name of its configuration.

    backbone:      name of a timm architecture.
    backbone_args: further keyword arguments of `timm.create_model`, e.g. {"img_size": 64, "patch_size": 8}.
    stem:          "cifar" replaces the 7x7 stride-2 convolution of a ResNet by a 3x3 stride-1 one and drops the max
                   pooling (Chen et al. 2020, appendix B.9), for images of about 32 pixels.
    """

    backbone: str = "resnet50"
    backbone_args: dict | None = None
    stem: str = "imagenet"

    def __post_init__(self, **kwargs):
        super().__post_init__(**kwargs)
        if self.stem not in ("imagenet", "cifar"):
            raise ValueError(f"stem must be imagenet or cifar, got {self.stem!r}")
        method, name = self.model_type, type(self).__name__.removesuffix("Config")
        self.auto_map = {
            "AutoConfig": f"configuration_{method}.{name}Config",
            "AutoModel": f"modeling_{method}.{name}Model",
            "AutoModelForPreTraining": f"modeling_{method}.{name}ForPreTraining",
        }


class ImagePreTrainedModel(PreTrainedModel):
    config: ImageMethodConfig
    base_model_prefix = "model"
    main_input_name = "pixel_values"
    input_modalities = ("image",)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        """timm initialises its own networks; here are only the heads and the buffers that no checkpoint holds."""
        if isinstance(module, Projector):
            for layer in module:
                if isinstance(layer, nn.Linear):
                    init.kaiming_uniform_(layer.weight, a=5**0.5)
        elif hasattr(module, "init_non_persistent_buffers"):  # timm's protocol for models made on the meta device
            module.init_non_persistent_buffers()

    def save_pretrained(self, save_directory, **kwargs):
        """As transformers', which copies the files of the method; and what they share with others, this file and
        maybe `codes`, which they then find beside them."""
        super().save_pretrained(save_directory, **kwargs)
        waiting = list(Path(save_directory).glob(f"*_{self.config.model_type}.py"))
        while waiting:
            path = waiting.pop()
            text = path.read_text(encoding="utf-8")
            for shared in ("codes", "trunk"):
                near = text.replace(f"from hf_replearn.methods.{shared} import", f"from .{shared} import")
                if near != text:
                    beside = path.with_name(f"{shared}.py")
                    beside.write_text(Path(__file__).with_name(beside.name).read_text("utf-8"), encoding="utf-8")
                    waiting.append(beside)
                text = near
            path.write_text(text, encoding="utf-8")


class ImageEncoder(ImagePreTrainedModel):
    """The encoder f: images to representations."""

    _keys_to_ignore_on_load_unexpected = (r"^(?!(model\.)?encoder\.)",)  # heads and teachers, of f and g saved together

    def __init__(self, config: ImageMethodConfig):
        super().__init__(config)
        self.encoder = timm.create_model(config.backbone, num_classes=0, **(config.backbone_args or {}))
        if config.stem == "cifar":
            width, channels = self.encoder.conv1.weight.shape[:2]
            self.encoder.conv1 = nn.Conv2d(channels, width, 3, padding=1, bias=False)
            nn.init.kaiming_normal_(self.encoder.conv1.weight, mode="fan_out", nonlinearity="relu")  # as timm's ResNet
            self.encoder.maxpool = nn.Identity()
        self.post_init()

    @property
    def features(self) -> int:
        """D: some networks have a layer after their last features."""
        return getattr(self.encoder, "head_hidden_size", self.encoder.num_features)

    def forward(self, pixel_values: Tensor) -> BaseModelOutputWithPooling:
        """pixel_values: (B, C, H, W), normalised. Returns pooler_output: (B, D), and last_hidden_state: (B, 1, D), the
        same, for whom looks for positions."""
        pooled = self.encoder(pixel_values)
        return BaseModelOutputWithPooling(last_hidden_state=pooled.unsqueeze(1), pooler_output=pooled)

    @property
    def map_features(self) -> int:
        """D of `maps`. Raises ValueError for a network that has none."""
        if not hasattr(self.encoder, "forward_intermediates"):
            raise ValueError("it gives no feature maps")
        return self.encoder.feature_info[-1]["num_chs"]

    def maps(self, pixel_values: Tensor) -> Tensor:
        """The last feature maps, (B, D, h, w), of images (B, C, H, W): of a network of tokens its patches, without what
        other tokens it has."""
        last = self.encoder.forward_intermediates(pixel_values, indices=1, norm=True, intermediates_only=True)
        return last[-1]

    def maps_and_features(self, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
        """`maps` (B, D, h, w) and the features (B, D) of images (B, C, H, W), in one pass."""
        last, maps = self.encoder.forward_intermediates(pixel_values, indices=1, norm=True)
        return maps[-1], self.encoder.forward_head(last, pre_logits=True)

    @property
    def stride(self) -> int:
        """Pixels of an image, in a row, for each place of `maps`."""
        return self.encoder.feature_info[-1]["reduction"] // (4 if self.config.stem == "cifar" else 1)


class Decoder(nn.Sequential):
    """g: last feature maps to maps of `stride` pixels a place, of K numbers: (B, D, h, w) -> (B, K, H', W').

    Places are doubled and convolved, with batch normalisation and ReLU, which leaves no checkerboard as a transposed
    convolution may (Odena et al. 2016); the width halves each time.
    """

    def __init__(self, encoder: ImageEncoder, numbers: int, *, stride: int, least: int = 64):
        """least: channels of the narrowest maps."""
        features, modules = encoder.map_features, []
        for _ in range(max(0, round(math.log2(encoder.stride / stride)))):
            width = max(least, min(512, features // 2))
            modules += [nn.Upsample(scale_factor=2), nn.Conv2d(features, width, 3, padding=1, bias=False)]
            modules += [nn.BatchNorm2d(width), nn.ReLU()]
            features = width
        super().__init__(*modules, nn.Conv2d(features, numbers, 3, padding=1))


class Projector(nn.Sequential):
    """g: linear layers without bias, batch normalisation and ReLU after each but the last. (B, D) -> (B, P)

    last_norm: batch normalisation after the last layer too: "affine", "plain" (without scale and shift), or "none".
    """

    def __init__(self, features: int, hidden: int, projected: int, *, layers: int, last_norm: str = "none"):
        modules: list[nn.Module] = []
        for _ in range(layers - 1):
            modules += [nn.Linear(features, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU()]
            features = hidden
        modules += [nn.Linear(features, projected, bias=False)]
        modules += [nn.BatchNorm1d(projected, affine=last_norm == "affine")] if last_norm != "none" else []
        super().__init__(*modules)


@dataclass
class TwoViewsOutput(ModelOutput):
    """loss: (), absent with `return_loss=False`. projections: (B, V, P). pooler_output: (B, V, D)."""

    loss: Tensor | None = None
    projections: Tensor | None = None
    pooler_output: Tensor | None = None


class ImageForPreTraining(ImagePreTrainedModel):
    """Encoder f, which is `model`, and a head g, which is thrown away after pretraining.

    A method makes its head, then calls `post_init`, and defines `forward(**views, return_loss=True)`, which gives a
    `loss` () and a `pooler_output`, (B, D) or (B, V, D); with `return_loss=False` it gives what it can without the loss
    and changes no state. Its state, if it has any, is submodules and buffers. What has to happen once after each
    optimizer step is `after_step(progress)`, called by the trainer with the share of the run that is done, from 0 to 1;
    and where it remembers anything else, `after_undone_step()` is called after a step that was left out, whose buffers
    are as before it.
    """

    accepts_loss_kwargs = False  # the loss is a mean over this batch: Trainer has no item count to pass

    def __init__(self, config: ImageMethodConfig):
        super().__init__(config)
        self.model = ImageEncoder(config)

    def start_from(self, weights: dict[str, Tensor]) -> None:
        """Gives f the weights of a timm network, where a run starts from a checkpoint."""
        self.model.encoder.load_state_dict(weights)


class TwoViewsForPreTraining(ImageForPreTraining):
    """Encoder f and head g under a loss of the projections of two views. A method defines `make_projection` and
    `objective`."""

    def __init__(self, config: ImageMethodConfig):
        super().__init__(config)
        self.projection = self.make_projection(self.model.features)
        self.post_init()

    def make_projection(self, features: int) -> nn.Module:
        """g for an encoder of D features."""
        raise NotImplementedError

    def objective(self, projections: Tensor, labels: Tensor | None = None) -> Tensor:
        """The loss () of a whole batch from its projections (B, V, P); labels: (B,), where the method uses them."""
        raise NotImplementedError

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None, return_loss: bool = True) -> TwoViewsOutput:
        """pixel_values: (B, V, C, H, W), normalised. All views of all images go through f and g in one pass."""
        h, z = project(self.model, self.projection, pixel_values)
        return TwoViewsOutput(loss=self.objective(z, labels) if return_loss else None, projections=z, pooler_output=h)


def project(model: nn.Module, projection: nn.Module, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
    """h (B, V, D) and z = g(h) (B, V, P) of views (B, V, C, H, W), in one pass."""
    images, views = pixel_values.shape[:2]
    h = model(pixel_values.transpose(0, 1).flatten(0, 1)).pooler_output  # (V * B, D)
    h, z = (x.unflatten(0, (views, images)).transpose(0, 1) for x in (h, projection(h)))
    return h, z


class TeacherForPreTraining(TwoViewsForPreTraining):
    """Two pairs of encoder f and head g: the student is trained on what the teacher makes of the views, and the teacher
    is a running mean of the student.

    The teacher starts as a copy, is never trained by gradients, and takes one step after each step of the optimizer. It
    is in evaluation mode whatever `train` says: dropout is off, and batch normalisation goes by running statistics,
    which are those of the teacher's own activations (Li et al. 2021, arXiv:2101.07525; those of the student, followed
    or copied, fit weights that lag behind badly, and BYOL learns less by them). In the authors' code of BYOL, MoCo and
    DINO it goes by those of the batch. Ours computes the same for an image in any batch, tells nothing of the other
    images in it (for which MoCo shuffles them between GPUs), and fits the teacher that is kept of DINO.

    A method defines `objective(projections, targets)`, both (B, V, P); its configuration has the first `momentum`.
    """

    def __init__(self, config: ImageMethodConfig):
        super().__init__(config)
        self.second = nn.ModuleDict({"model": copy.deepcopy(self.model), "projection": copy.deepcopy(self.projection)})
        self.train()

    @property
    def student(self) -> tuple[nn.Module, nn.Module]:
        """f and g that are trained, and kept."""
        return self.model, self.projection

    @property
    def teacher(self) -> tuple[nn.Module, nn.Module]:
        """f and g that follow."""
        return self.second["model"], self.second["projection"]

    def train(self, mode: bool = True):
        super().train(mode)
        for network in self.teacher:
            network.eval().requires_grad_(False)
        return self

    def start_from(self, weights: dict[str, Tensor]) -> None:
        super().start_from(weights)
        self.second["model"].load_state_dict(self.model.state_dict())

    def forward(self, pixel_values: Tensor, labels=None, return_loss=True, local_crops=None) -> TwoViewsOutput:
        """pixel_values: (B, V, C, H, W), normalised. Both pairs see all views of all images, each pair in one pass.
        local_crops: (B, L, C, h, w), smaller views that the student sees too, after the others in `projections`."""
        h, z = project(*self.student, pixel_values)
        if local_crops is not None:
            z = torch.cat([z, project(*self.student, local_crops)[1]], 1)
        with torch.no_grad(), taking_statistics(self.teacher if self.training else ()):
            targets = project(*self.teacher, pixel_values)[1] if return_loss else None
        return TwoViewsOutput(loss=self.objective(z, targets) if return_loss else None, projections=z, pooler_output=h)

    def momentum(self, progress: float) -> float:
        """Of the teacher: from that of the configuration it rises to 1 along a cosine (Grill et al. 2020, section 3.2).

        progress: the share of the run that is done, from 0 to 1.
        """
        return 1 - (1 - self.config.momentum) * (1 + math.cos(math.pi * progress)) / 2

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """teacher = momentum * teacher + (1 - momentum) * student."""
        momentum = self.momentum(progress)
        for follower, leader in zip(self.teacher, self.student, strict=True):
            for weight, leading in zip(follower.parameters(), leader.parameters(), strict=True):
                weight.lerp_(leading, 1 - momentum)


@contextmanager
def taking_statistics(networks: Iterable[nn.Module]) -> Iterator[None]:
    """Batch normalisation in evaluation mode moves its running statistics on, after it has gone by them."""
    norms = [norm for network in networks for norm in network.modules() if isinstance(norm, BATCH_NORMS)]
    hooks = [norm.register_forward_hook(_take_statistics) for norm in norms if norm.track_running_stats]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _take_statistics(norm: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
    x = inputs[0].float()  # (B, C, ...)
    variance, mean = torch.var_mean(x, [0, *range(2, x.ndim)])
    norm.running_mean.lerp_(mean, norm.momentum)
    norm.running_var.lerp_(variance, norm.momentum)


def gather(rows: Tensor) -> Tensor:
    """Rows (B, …) of all processes, in the order of the ranks: (N, …), with the gradient of a loss of all of them.

    Each process must compute the same loss of all N rows. Its gradient for a row then is known where the row comes
    from, without a reduction; it is multiplied by the number of processes because DistributedDataParallel averages.
    """
    return _Gather.apply(rows) if _processes() > 1 else rows


def gather_detached(rows: Tensor) -> Tensor:
    """As `gather`, without a gradient."""
    if _processes() == 1:
        return rows.detach()
    gathered = rows.new_empty(_processes() * len(rows), *rows.shape[1:])
    dist.all_gather_into_tensor(gathered, rows.detach().contiguous())
    return gathered


def first_row(rows: Tensor) -> int:
    """The number that the first of these rows has among those of all processes."""
    return len(rows) * dist.get_rank() if _processes() > 1 else 0


def _processes() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows: Tensor) -> Tensor:
        ctx.own = slice(first_row(rows), first_row(rows) + len(rows))
        return gather_detached(rows)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return gradient[ctx.own] * _processes()


def register(config: type, encoder: type, model: type) -> None:
    """Makes the classes of a method known to AutoConfig, AutoModel and AutoModelForPreTraining; `save_pretrained` then
    copies their files beside the weights, for `trust_remote_code`."""
    AutoConfig.register(config.model_type, config, exist_ok=True)
    AutoModel.register(config, encoder, exist_ok=True)
    AutoModelForPreTraining.register(config, model, exist_ok=True)
    config.register_for_auto_class()
    encoder.register_for_auto_class("AutoModel")
    model.register_for_auto_class("AutoModelForPreTraining")


__all__ = [
    "Conv4", "Decoder", "Dense", "ImageEncoder", "ImageForPreTraining", "ImageMethodConfig", "ImagePreTrainedModel",
    "Projector", "TeacherForPreTraining", "TwoViewsForPreTraining", "TwoViewsOutput", "first_row", "gather",
    "gather_detached", "project", "register",
]  # fmt: skip
