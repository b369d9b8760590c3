"""What a server loads: gunicorn's workers (without --preload), and runserver's server process.

Not the reloader's parent, and no management command. That is why cron jobs are started here and not in
`AppConfig.ready`, which all of them call.
"""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
application = get_wsgi_application()

from shop.cron import cron  # noqa: E402  needs the models, which are loaded now

cron.start()
