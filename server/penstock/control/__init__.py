"""The control plane: a Flask-RESTful application on gevent, on a private Unix socket behind the public port.

Importing this package loads neither; `penstock.control.server` and `penstock.control.app` do.
"""

__all__: list[str] = []
