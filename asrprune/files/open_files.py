"""How many files a process may have open at once."""

import errno

SPARE = 64
"""Files beside those that are asked for: standard streams, libraries, outputs."""


def allow_open_files(count: int) -> None:
    """Raise the limit of this process so that ``count`` files can be open at once, and SPARE more.

    Does nothing where the limit is as high, or unknown (Windows). Raises OSError where the system
    allows fewer.
    """
    try:
        import resource
    except ImportError:
        return
    wanted = count + SPARE
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY or limit >= wanted:
        return
    if most != resource.RLIM_INFINITY and most < wanted:
        raise OSError(errno.EMFILE, f"{wanted} open files; expected at most {most} (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
