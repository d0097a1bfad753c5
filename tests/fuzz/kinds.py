"""The kinds of input."""

from .inputs import Kind
from .pictures import make_picture, read_picture

KINDS = (Kind(name="picture", make=make_picture, read=read_picture, share=10),)
