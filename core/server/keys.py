"""Where handlers find what their application carries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp.web import AppKey

if TYPE_CHECKING:
    from .herald import Herald
    from .listing import Listings
    from .log import Recent
    from .office import Office
    from .settings import Settings
    from .sockets import Sockets
    from .users import Kept

OFFICE: AppKey[Office] = AppKey("office")
SETTINGS: AppKey[Settings] = AppKey("settings")
HERALD: AppKey[Herald] = AppKey("herald")
LISTINGS: AppKey[Listings] = AppKey("listings")
SOCKETS: AppKey[Sockets] = AppKey("sockets")
RECENT: AppKey[Recent] = AppKey("recent")
SETTINGS_FILE: AppKey[Kept] = AppKey("settings file")
USERS_FILE: AppKey[Kept] = AppKey("users file")
