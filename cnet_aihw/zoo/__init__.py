"""Data sets and networks of the paper, and the ways to bring your own."""

from typing import TYPE_CHECKING

from cnet_aihw.runtime.lazy import lazy_names

if TYPE_CHECKING:
    from cnet_aihw.zoo.augment import CropFlip as CropFlip
    from cnet_aihw.zoo.build import from_tensors as from_tensors
    from cnet_aihw.zoo.clipped import ClippedCNN as ClippedCNN
    from cnet_aihw.zoo.clipped import ClippedMLP as ClippedMLP
    from cnet_aihw.zoo.dataset import Dataset as Dataset
    from cnet_aihw.zoo.dataset import ImagePart as ImagePart
    from cnet_aihw.zoo.dataset import batches as batches
    from cnet_aihw.zoo.folders import image_folder as image_folder
    from cnet_aihw.zoo.lenet import LeNet5 as LeNet5
    from cnet_aihw.zoo.mlp import MLP as MLP
    from cnet_aihw.zoo.named import huggingface_model as huggingface_model
    from cnet_aihw.zoo.named import timm_model as timm_model
    from cnet_aihw.zoo.named import torchvision_model as torchvision_model
    from cnet_aihw.zoo.own import arrays as arrays
    from cnet_aihw.zoo.performer import PerformerAttention as PerformerAttention
    from cnet_aihw.zoo.pretrained import load_pretrained as load_pretrained
    from cnet_aihw.zoo.random_features import random_projection as random_projection
    from cnet_aihw.zoo.recurrent import Recurrent as Recurrent
    from cnet_aihw.zoo.resnet import ResNet20 as ResNet20
    from cnet_aihw.zoo.samples import from_samples as from_samples
    from cnet_aihw.zoo.scenes import digit_scenes as digit_scenes
    from cnet_aihw.zoo.sources import cifar10 as cifar10
    from cnet_aihw.zoo.sources import cifar100 as cifar100
    from cnet_aihw.zoo.sources import digits as digits
    from cnet_aihw.zoo.sources import fashion_mnist as fashion_mnist
    from cnet_aihw.zoo.sources import mnist as mnist
    from cnet_aihw.zoo.table import table as table
    from cnet_aihw.zoo.text import text as text
    from cnet_aihw.zoo.transformer import LanguageModel as LanguageModel
    from cnet_aihw.zoo.transformer import ViT as ViT
    from cnet_aihw.zoo.unet import UNet as UNet
    from cnet_aihw.zoo.vgg import VGG16 as VGG16

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
