"""gunicorn as we set it up, for the rivals: its own gthread worker, as many threads, one process."""

bind = "127.0.0.1:0"  # the command line says where
worker_class = "gthread"
workers = 1
threads = 8
keepalive = 75
preload_app = True
timeout = 30
accesslog = None
