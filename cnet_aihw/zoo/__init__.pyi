from .augment import CropFlip as CropFlip
from .build import from_tensors as from_tensors
from .dataset import Dataset as Dataset
from .dataset import Part as Part
from .dataset import batches as batches
from .lenet import LeNet5 as LeNet5
from .mlp import MLP as MLP
from .own import arrays as arrays
from .own import image_folder as image_folder
from .pretrained import load_pretrained as load_pretrained
from .resnet import ResNet20 as ResNet20
from .sources import cifar10 as cifar10
from .sources import cifar100 as cifar100
from .sources import digits as digits
from .sources import fashion_mnist as fashion_mnist
from .sources import mnist as mnist
from .vgg import VGG16 as VGG16

__all__ = [
    "MLP",
    "VGG16",
    "CropFlip",
    "Dataset",
    "LeNet5",
    "Part",
    "ResNet20",
    "arrays",
    "batches",
    "cifar10",
    "cifar100",
    "digits",
    "fashion_mnist",
    "from_tensors",
    "image_folder",
    "load_pretrained",
    "mnist",
]
