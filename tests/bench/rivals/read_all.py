"""What short tutorials do: read everything, then put it: read_all.py SOURCE BUCKET KEY."""

import sys

import boto3
import requests

answer = requests.get(sys.argv[1], timeout=60)
answer.raise_for_status()
boto3.client("s3").put_object(Bucket=sys.argv[2], Key=sys.argv[3], Body=answer.content)
