"""What most programs do: boto3's own upload of a download's file object: upload_fileobj.py SOURCE BUCKET KEY."""

import sys

import boto3
import requests

with requests.get(sys.argv[1], stream=True, timeout=60) as answer:
    answer.raise_for_status()
    boto3.client("s3").upload_fileobj(answer.raw, sys.argv[2], sys.argv[3])
