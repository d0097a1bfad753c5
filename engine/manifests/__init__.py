"""What a result's file says of the run that made it, so that it can be made again.

Knows runs, and the files of pictures; never how a run is made of what is read here.
"""
