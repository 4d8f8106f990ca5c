"""How to install what comes with an extra of the package; shared by server and client."""


def install_command(extras: str) -> str:
    """Return the command that adds the extras, such as `server,metrics`, to this installation.

    It names the folder or the file that threadbus was installed from, if that is on this machine.
    """
    import json
    from importlib.metadata import PackageNotFoundError, distribution
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    source = "threadbus"
    try:
        origin = distribution("threadbus").read_text("direct_url.json")
    except PackageNotFoundError:  # run from a checkout that is not installed
        origin = None
    if origin and (url := urlsplit(json.loads(origin)["url"])).scheme == "file":
        source = url2pathname(url.path)
    return f"pip install '{source}[{extras}]'"
