#!/usr/bin/env python3
"""Follows a log stream of one logger into a file: a line per row, its number, a tab, its JSON.

    ctl certs subscriber siem                                # makes siem.key, siem.pem, ca.pem
    apt-get install python3-grpcio python3-protobuf protobuf-compiler
    protoc -I proto --python_out=. tyto/v1/follow.proto      # makes tyto/v1/follow_pb2.py
    PYTHONPATH=. docs/examples/follow.py --logger logger=10.0.0.1:27761 --name siem \\
        --stream conn --where 'id.resp_p == 443' conn.rows

The file is the position: when this program, the logger or the network dies, the next start cuts off
a line that was not written to its end and goes on behind the last one. So each row is in the file
exactly once. Rows that expired at the logger before they were asked for are told on standard error.
"""

import argparse
import os
import sys
import time

import grpc
from tyto.v1 import follow_pb2

# What may pass: the logger starts anew, has too many subscribers, or is not to be reached.
PASSING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED,
           grpc.StatusCode.INTERNAL, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN)
RETRY_S = 1.0


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--logger", required=True, metavar="NAME=HOST:PORT")
    parser.add_argument("--name", required=True, help="name of the subscriber: NAME.key, NAME.pem")
    parser.add_argument("--keys", default=".", help="folder of NAME.key, NAME.pem and ca.pem")
    parser.add_argument("--stream", required=True)
    parser.add_argument("--where", default="")
    parser.add_argument("--fields", default="", help="with commas between")
    parser.add_argument("file")
    return parser.parse_args()


def channel_to(args):
    """mTLS: the logger's certificate carries its node name, not that of its host."""
    node, address = args.logger.split("=", 1)
    read = lambda name: open(os.path.join(args.keys, name), "rb").read()
    credentials = grpc.ssl_channel_credentials(
        root_certificates=read("ca.pem"),
        private_key=read(args.name + ".key"),
        certificate_chain=read(args.name + ".pem"))
    return grpc.secure_channel(address, credentials,
                               options=[("grpc.ssl_target_name_override", node)])


def next_row(file):
    """Cuts a torn last line off, and gives the number behind the last row; none: no row yet."""
    size = file.seek(0, os.SEEK_END)
    block, start = b"", size
    while start > 0 and block.rstrip(b"\n").count(b"\n") < 2:
        start = max(0, start - 65536)
        file.seek(start)
        block = file.read(size - start)
    whole = block.rfind(b"\n") + 1
    file.truncate(start + whole)
    file.seek(0, os.SEEK_END)
    lines = block[:whole].splitlines()
    return int(lines[-1].split(b"\t", 1)[0]) + 1 if lines else None


def follow(args, file):
    row = next_row(file)
    request = follow_pb2.FollowRequest(stream=args.stream, where=args.where)
    request.fields.extend(name for name in args.fields.split(",") if name)
    if row is None:
        request.beginning = True
    else:
        request.row = row
    with channel_to(args) as channel:
        call = channel.unary_stream(
            "/tyto.v1.LogFollow/Follow",
            request_serializer=follow_pb2.FollowRequest.SerializeToString,
            response_deserializer=follow_pb2.FollowReply.FromString)
        for reply in call(request):
            kind = reply.WhichOneof("kind")
            if kind == "rows":
                for got in reply.rows.rows:
                    file.write(b"%d\t%s\n" % (got.row, got.json))
                file.flush()
            elif kind == "gone":
                print("follow: %d rows from %d on have expired" %
                      (reply.gone.rows, reply.gone.first_row), file=sys.stderr)


def main():
    args = arguments()
    with open(args.file, "a+b") as file:
        while True:
            try:
                follow(args, file)
            except grpc.RpcError as error:
                if error.code() not in PASSING:
                    sys.exit("follow: %s: %s" % (error.code().name, error.details()))
                print("follow: %s; again in a moment" % error.details(), file=sys.stderr)
            time.sleep(RETRY_S)


if __name__ == "__main__":
    main()
