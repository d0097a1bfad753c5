"""``nstx serve``: HTTP for the service of `nstx.engine.service`; nothing else knows of HTTP's server side."""
