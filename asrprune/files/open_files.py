"""How many files a process may have open at once."""

SPARE = 64
"""Files beside those that are asked for: standard streams, libraries, outputs."""


def allow_open_files(count: int) -> None:
    """Raise the limit of this process so that ``count`` files can be open at once, and SPARE more,
    as far as the system lets it. A limit that is as high stays, and so does one that is unknown
    (Windows).
    """
    try:
        import resource
    except ImportError:
        return
    wanted = count + SPARE
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY or limit >= wanted:
        return
    if most != resource.RLIM_INFINITY:
        wanted = min(wanted, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
