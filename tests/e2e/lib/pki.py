# SPDX-License-Identifier: BSD-2-Clause
"""A certificate authority and one server certificate for localhost, made with openssl."""

import dataclasses
import os
import subprocess

SUBJECT_ALT_NAME = "DNS:localhost,IP:127.0.0.1,IP:::1"
KEY_OPTIONS = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]


@dataclasses.dataclass
class Pki:
    ca: str
    certificate: str  # the leaf and the authority
    key: str


def _openssl(*arguments):
    subprocess.run(["openssl", *arguments], check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.PIPE)


def make(directory):
    """Writes the files into `directory`, readable to all: servers drop their privileges."""

    def path(name):
        return os.path.join(directory, name)

    _openssl("req", "-x509", *KEY_OPTIONS, "-keyout", path("ca.key"), "-out", path("ca.pem"),
             "-days", "2", "-subj", "/CN=tlstrace test CA",
             "-addext", "basicConstraints=critical,CA:TRUE")
    _openssl("req", *KEY_OPTIONS, "-keyout", path("leaf.key"), "-out", path("leaf.csr"),
             "-subj", "/CN=localhost")
    with open(path("leaf.ext"), "w", encoding="ascii") as file:
        file.write(f"subjectAltName={SUBJECT_ALT_NAME}\nbasicConstraints=critical,CA:FALSE\n"
                   "extendedKeyUsage=serverAuth\n")
    _openssl("x509", "-req", "-in", path("leaf.csr"), "-CA", path("ca.pem"),
             "-CAkey", path("ca.key"), "-CAcreateserial", "-days", "2",
             "-extfile", path("leaf.ext"), "-out", path("leaf.pem"))
    with open(path("chain.pem"), "w", encoding="ascii") as chain:
        for name in ("leaf.pem", "ca.pem"):
            with open(path(name), encoding="ascii") as file:
                chain.write(file.read())
    os.chmod(path("leaf.key"), 0o644)
    return Pki(path("ca.pem"), path("chain.pem"), path("leaf.key"))
