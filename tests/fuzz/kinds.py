"""The kinds of input."""

from .commands import make_command, make_toml, read_configuration, run_command
from .graphs import make_graph, make_model, read_graph, read_model
from .inputs import Kind
from .pickles import make_pickle, read_pickle
from .pictures import make_picture, read_picture
from .records import make_record, read_comparison
from .runs import make_jobs, make_manifest
from .targets import (
    make_copy,
    make_entry,
    make_targets_file,
    read_copy,
    read_entry,
    read_targets_file,
)
from .weights import (
    PROGRAMS,
    make_keras,
    make_matlab,
    make_network,
    make_weights,
    read_network,
    read_weights,
)

KINDS = (
    Kind(name="picture", make=make_picture, read=read_picture, share=10),
    Kind(name="weights", make=make_weights, read=read_weights, share=10),
    Kind(name="network", make=make_network, read=read_network, share=0.5),
    Kind(name="keras", make=make_keras, read=read_weights, share=3, starts=PROGRAMS),
    Kind(name="matlab", make=make_matlab, read=read_network, share=0.2, starts=PROGRAMS),
    Kind(name="targets", make=make_targets_file, read=read_targets_file, share=5),
    Kind(name="entry", make=make_entry, read=read_entry, share=5),
    Kind(name="copy", make=make_copy, read=read_copy, share=3),
    Kind(name="graph", make=make_graph, read=read_graph, share=3),
    Kind(name="model", make=make_model, read=read_model, share=5),
    Kind(name="pickle", make=make_pickle, read=read_pickle, share=3),
    Kind(name="record", make=make_record, read=read_comparison, share=1),
    Kind(name="toml", make=make_toml, read=read_configuration, share=5),
    Kind(name="command", make=make_command, read=run_command, share=10),
    Kind(name="manifest", make=make_manifest, read=run_command, share=5),
    Kind(name="jobs", make=make_jobs, read=run_command, share=5),
)
