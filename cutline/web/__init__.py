"""Fetching of web addresses that other people wrote: checked hosts, limited time and size.

The proxies that environment variables name are not used, because a proxy would look up the hosts
itself, unchecked.
"""

from cutline.web.address import hide_credentials, is_web_address
from cutline.web.errors import UrlError
from cutline.web.fetch import fetch_url, stream_url

__all__ = ["UrlError", "fetch_url", "hide_credentials", "is_web_address", "stream_url"]
