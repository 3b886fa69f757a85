"""An S3-compatible server (moto) on a free loopback port, until standard input closes."""

import sys
import urllib.request

from moto.server import ThreadedMotoServer

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
endpoint = "http://%s:%d" % server.get_host_and_port()
bucket = urllib.request.Request(f"{endpoint}/regrade-test", method="PUT")
urllib.request.urlopen(bucket, timeout=10).close()
print(endpoint, flush=True)
sys.stdin.read()
