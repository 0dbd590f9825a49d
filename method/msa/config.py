"""The constants of MSA (2024), of its training with images and with saliency maps as what class maps rebuild.

Values marked **Q** are oddities of the released code, kept by default; `paper/deviations.md` lists each with its sane
value.
"""

from dataclasses import dataclass, field

from method.oddities import Oddity


@dataclass(frozen=True)
class IPCConfig:
    """Prototypes of an image's classes rebuild it (IPC), in each of its patches."""

    weight: float = 0.3  # alpha
    patches: int = 9  # a square number
    threshold: float = 0.1  # t: foreground and background must be as large somewhere in a patch that counts
    # Q: released takes 1 less the background, which is 0 beside the image, for the foreground, so that a patch with
    # padding always has some; True takes the foreground inside the image.
    foreground_inside: bool = False
    # Q: released sums the error over the target's channels; True takes their mean.
    mean_over_channels: bool = False


@dataclass(frozen=True)
class MSAConfig:
    """What a training sums, with which constants, on which net.

    target: what is rebuilt, "image" or "saliency". steps, threshold: of AP. propagates: whether maps are propagated in
    training too. power: of the rate's decay. sp_cam: superpixels, DCR and AP; without, the baseline. dcr: of
    `network.msa.DCR`. scn: the superpixel network's file.
    """

    target: str
    ipc: IPCConfig = field(default_factory=IPCConfig)
    steps: int = 8  # beta
    threshold: float = 0.6
    # Q: released does not propagate in training with saliency maps, but does in validation and inference.
    propagates: bool = True
    power: float = 0.5
    sp_cam: bool = True
    dcr: str = "association"
    scn: str | None = None
    thresholds: tuple[float, ...] = (0.15, 0.2, 0.3, 0.4)  # of validation
    # Q: released brings pixels to both nets by the statistics of COCO's images, which neither was trained with; True
    # by ImageNet's.
    imagenet_statistics: bool = False
    # Q: released has a leaky relu between the neighbours' scores and their softmax; False leaves it out.
    leaky_scores: bool = True
    # Q: released shows the classifier an image of seeds that was resized by the scale and then to multiples of 16, and
    # the superpixel network one that was resized to these at once; True shows both the latter.
    resized_once: bool = False
    along: bool = True  # whether seeds come to pixels along superpixels; else they are resized
    # Q: released puts 1 beside a saliency map of which nothing is above 100 of 255; True puts 0 beside any.
    black_padding: bool = False


# By the method's name, as released.
CONFIGS = {
    "msa_image": MSAConfig("image"),
    "msa_sal": MSAConfig(
        "saliency",
        ipc=IPCConfig(patches=1, threshold=0.01),
        propagates=False,
        power=0.9,
        thresholds=(0.15, 0.2, 0.3),
    ),
}
# What `--sane` takes: a name for each oddity (Q).
SANE = {
    "statistics": Oddity(None, "imagenet_statistics", True),
    "softmax": Oddity(None, "leaky_scores", False),
    "patch": Oddity("ipc", "foreground_inside", True),
    "channels": Oddity("ipc", "mean_over_channels", True),
    "propagation": Oddity(None, "propagates", True),
    "padding": Oddity(None, "black_padding", True, where=lambda config: config.target == "saliency"),
    "resize": Oddity(None, "resized_once", True, where=lambda config: False),  # of seeds alone: training has no resize
}
OF_NET = ("statistics", "softmax", "resize")  # those that inference has to know of
