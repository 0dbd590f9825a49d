"""Stage 3, DeepLab on pseudo labels: every setting of `train.py` and `test.py`.

    python train.py     after EXP_NAME, GPUS, DATA_ROOT and DATA_PSEUDO_GT
    python test.py      after TEST_CKPT

Edit the values here, or change some for one run: `python train.py --set GPUS=2 TRAIN_LR=0.002`.
`python train.py --config EPS_deeplabv1_resnet101` takes a released experiment of `configurations`, below; what `--set`
says comes after it.
A relative path here is taken from the repository's root, wherever the script is started; a relative path after
`--set` is taken from the current folder, as the shell completes it.

The values are the released recipe's; keys marked (ours) are not among the released ones.
`segmentation/settings.py` says what each value may be, and both scripts check all of them before they start.
"""

config_dict = {
    # -- change these first --------------------------------------------------------------------------------------------
    "EXP_NAME": "Ours_deeplabv2_resnet101",  # the run's name: its files go to EXP_ROOT/EXP_NAME
    "GPUS": 1,  # GPUs to use; 0: the CPU
    "DATA_ROOT": "VOC2012",  # (ours) the data set's folder: VOC's has JPEGImages and SegmentationClass
    "DATA_PSEUDO_GT": "exps/crf/crf_8_7",  # folder of <id>.png label maps to train on: stage 1's CRF seeds
    "TEST_CKPT": None,  # checkpoint that test.py scores, EXP_ROOT/EXP_NAME/..._all.pth
    # -- the run -------------------------------------------------------------------------------------------------------
    "EXP_ROOT": "exps",  # (ours) folder of all runs
    # -- data ----------------------------------------------------------------------------------------------------------
    "DATA_SET": "voc12",  # (ours) its name, or a JSON file that describes it
    "DATA_NAME": "VOCDataset",  # part of the checkpoints' names
    "DATA_YEAR": 2012,
    "DATA_LISTS": "voc12",  # (ours) folder of train_aug.txt (or trainaug.txt), train.txt, val.txt, test.txt
    "DATA_AUG": True,  # train on train_aug.txt; False: on train.txt
    "DATA_WORKERS": 4,  # loader processes; 0: load in the training process
    "DATA_MEAN": [0.485, 0.456, 0.406],  # ImageNet's, red, green, blue in 0..1; None: the backbone's
    "DATA_STD": [0.229, 0.224, 0.225],
    # -- augmentation --------------------------------------------------------------------------------------------------
    "DATA_RANDOMCROP": 448,  # side of the crop, pixels
    "DATA_RANDOMSCALE": [0.5, 1.5],  # bounds of the factor on the image's sides
    "DATA_SCALES": None,  # (ours) factors, one of which is drawn instead, in deeplab-pytorch's way: data.py
    "DATA_RANDOM_H": 10,  # hue moves by up to this, in OpenCV's 0..179 (2 degrees a step)
    "DATA_RANDOM_S": 10,  # saturation, in 0..255
    "DATA_RANDOM_V": 10,  # value, in 0..255
    "DATA_RANDOMFLIP": 0.5,  # probability of a mirror image
    # -- net -----------------------------------------------------------------------------------------------------------
    "MODEL_NAME": "deeplabv2",  # or deeplabv1, deeplabv2_msc
    "MODEL_BACKBONE": "resnet101",  # or resnet18, resnet34, resnet50, resnet152, resnet38d, mobilenet_v2,
    # caffe_resnet101, timm:NAME
    "MODEL_BACKBONE_WIDTH": 1.0,  # (ours) channel multiplier of resnet38d, as stage 1's --width
    "MODEL_BACKBONE_PRETRAIN": True,  # start from ImageNet weights; False: from random ones
    "MODEL_BACKBONE_WEIGHTS": None,  # (ours) file of these or of a stage-1 classifier; None: torchvision's or timm's
    "MODEL_NUM_CLASSES": None,  # as many as the data set has labels; None: just so
    "MODEL_BACKBONE_DILATED": True,  # output stride 8; False: 32
    "MODEL_BACKBONE_MULTIGRID": False,  # growing dilation within the last stage
    "MODEL_BACKBONE_DEEPBASE": True,  # stem of three 3x3 convolutions; False: torchvision's 7x7
    "MODEL_BACKBONE_BN_MOM": None,  # (ours) momentum of the backbone's batch norms; None: resnet38d's 3e-4, others' 0.1
    "MODEL_ASPP_OUTDIM": 256,  # channels of each ASPP branch (deeplabv2)
    "MODEL_ASPP_HASGLOBAL": True,  # ASPP has the image mean as a branch (deeplabv2)
    "MODEL_FREEZEBN": False,  # keep the running statistics of the backbone's batch norms
    # -- training ------------------------------------------------------------------------------------------------------
    "TRAIN_LR": 0.001,  # of the backbone's weights; its biases x 2, head weights x 10, head biases x 20
    "TRAIN_MOMENTUM": 0.9,
    "TRAIN_WEIGHT_DECAY": 5e-4,  # not of biases
    "TRAIN_BN_MOM": 3e-4,  # momentum of the head's batch norms
    "TRAIN_POWER": 0.9,  # of the rate's polynomial decay
    "TRAIN_LR_DECAY": None,  # (ours) steps from one rate to the next, on the way to 0 at TRAIN_ITERATION; None: 1, and
    # 0 one step later
    "TRAIN_BATCHES": 10,  # images at once, over all GPUs
    "TRAIN_ITER_SIZE": 1,  # (ours) so many batches a step, the mean of whose losses counts
    "TRAIN_SHUFFLE": True,  # a new order each epoch
    "TRAIN_ITERATION": 20000,  # steps
    "TRAIN_MINEPOCH": 0,  # train at least this many epochs, should TRAIN_ITERATION be fewer
    "TRAIN_TBLOG": True,  # write TensorBoard events
    "TRAIN_AMP": "off",  # (ours) bf16: forward pass in bfloat16
    "TRAIN_SEED": 0,  # (ours) of weights, order and augmentation; 0 to 2**32 - 1
    "TRAIN_SAVE_EVERY": 500,  # (ours) steps from one checkpoint to go on from to the next
    # -- test ----------------------------------------------------------------------------------------------------------
    "TEST_SPLIT": "val",  # (ours) list of DATA_LISTS: val, train, or test, which has no ground truth
    "TEST_MULTISCALE": [0.5, 0.75, 1.0, 1.25, 1.5, 1.75],  # factors on the image's sides, averaged
    "TEST_FLIP": True,  # average with the mirror image too
    "TEST_CRF": True,  # sharpen with the CRF
    "TEST_CRF_IMAGE": "rgb",  # (ours) what it sees of the image: rgb, bgr, or wrapped, as deeplab-pytorch's does
    "TEST_LOGITS": None,  # (ours) folder of <id>.npy: one pass's logits, kept there, taken from there; all: no net
    "TEST_SCORES": None,  # (ours) JSON file that gets deeplab-pytorch's scores, too
    "TEST_CRF_WORKERS": None,  # (ours) CRF processes on a CPU; None: one a core
    "TEST_AMP": "off",  # (ours) bf16 or fp16: the network in half precision
    "TEST_BATCHES": 1,  # images at once; only 1, as images differ in size
}

# The released experiments by name: what they have instead of the values above.
configurations = {
    "SEAM_deeplabv1_resnet38": {
        "EXP_NAME": "SEAM_deeplabv1_resnet38",
        "DATA_PSEUDO_GT": "exps/seam/out_rw",  # the masks of AffinityNet's walk
        "MODEL_NAME": "deeplabv1",
        "MODEL_BACKBONE": "resnet38d",
    },
    "EPS_deeplabv1_resnet101": {
        "EXP_NAME": "EPS_deeplabv1_resnet101",
        "DATA_PSEUDO_GT": "exps/ppc_eps/crf/crf_5_8",
        "MODEL_NAME": "deeplabv1",
        "TEST_SPLIT": "test",
    },
    "EPS_deeplabv2_resnet101": {
        "EXP_NAME": "EPS_deeplabv2_resnet101",
        "DATA_PSEUDO_GT": "exps/ppc_eps/crf/crf_5_8",
        "TEST_SPLIT": "test",
    },
    # CRT's DeepLab, as deeplab-pytorch trains it. From torchvision's weights instead: MODEL_BACKBONE=resnet101
    # MODEL_BACKBONE_WEIGHTS=None.
    "CRT_deeplabv2_resnet101_msc": {
        "EXP_NAME": "CRT_deeplabv2_resnet101_msc",
        "DATA_PSEUDO_GT": "exps/crt/sem_seg",
        "DATA_MEAN": None,
        "DATA_STD": None,
        "DATA_RANDOMCROP": 321,
        "DATA_SCALES": [0.5, 0.75, 1.0, 1.25, 1.5],
        "DATA_RANDOM_H": 0,
        "DATA_RANDOM_S": 0,
        "DATA_RANDOM_V": 0,
        "MODEL_NAME": "deeplabv2_msc",
        "MODEL_BACKBONE": "caffe_resnet101",
        "MODEL_BACKBONE_DEEPBASE": False,
        # Trained on COCO's segmentation masks: more than image labels.
        "MODEL_BACKBONE_WEIGHTS": "pretrained/deeplabv1_resnet101-coco.pth",
        "MODEL_FREEZEBN": True,
        "TRAIN_LR": 2.5e-4,
        "TRAIN_LR_DECAY": 10,
        "TRAIN_BATCHES": 5,
        "TRAIN_ITER_SIZE": 2,
        "TEST_MULTISCALE": [1.0],
        "TEST_FLIP": False,
        "TEST_CRF_IMAGE": "wrapped",
    },
}
