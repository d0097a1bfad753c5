"""The kinds of input."""

from .inputs import Kind
from .pictures import make_picture, read_picture
from .weights import PROGRAMS, make_keras, make_matlab, make_weights, read_weights

KINDS = (
    Kind(name="picture", make=make_picture, read=read_picture, share=10),
    Kind(name="weights", make=make_weights, read=read_weights, share=10),
    Kind(name="keras", make=make_keras, read=read_weights, share=4),
    Kind(name="matlab", make=make_matlab, read=read_weights, share=0.2, starts=PROGRAMS),
)
