"""The physical limit: move a body from a socket to a socket and hash it: raw_sockets.py HOST PORT SOURCE SINK SIZE."""

import hashlib
import socket
import sys

host, port, source, sink, size = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4], int(sys.argv[5])
buffer = memoryview(bytearray(1024 * 1024))
digest = hashlib.sha256()
with socket.create_connection((host, port)) as download, socket.create_connection((host, port)) as upload:
    download.sendall(f"GET {source} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    upload.sendall(f"PUT {sink} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {size}\r\n\r\n".encode())
    head = b""
    while b"\r\n\r\n" not in head:
        head += download.recv(1)
    left = size
    while left:
        count = download.recv_into(buffer)
        digest.update(buffer[:count])
        upload.sendall(buffer[:count])
        left -= count
    if not upload.recv(4096).startswith(b"HTTP/1.1 200 "):
        sys.exit("the sink refused the body")
