#!/usr/bin/env python3
"""Checks a LungAI evidence package without any program of LungAI: python3 check.py PACKAGE [ROLE=PUBLIC.pem ...] [builder=PUBLIC.pem]

Only Python's standard library and, for signatures, openssl. Take this file from elsewhere than the package that it is to check. Exit code 0:
intact; 4: broken, the first broken item is named. A role that is given with a key must have signed with that key.
"""
import base64, hashlib, json, os, re, subprocess, sys, tempfile

def broken(what):
    print("BROKEN", what)
    sys.exit(4)

def sha256(data):
    return hashlib.sha256(data).hexdigest()

def read(*path):
    try:
        with open(os.path.join(package, *path), "rb") as file:
            return file.read()
    except OSError:
        broken("/".join(path) + ": missing")

def fits(public, signature, data):
    with tempfile.TemporaryDirectory() as folder:
        names = [os.path.join(folder, name) for name in ("public", "signature", "data")]
        for name, content in zip(names, (public, signature, data)):
            with open(name, "wb") as file:
                file.write(content)
        command = ["openssl", "dgst", "-sha256", "-verify", names[0], "-signature", names[1], names[2]]
        return subprocess.run(command, capture_output=True).returncode == 0

def same_key(a, b):
    der = [subprocess.run(["openssl", "pkey", "-pubin", "-outform", "DER"], input=key, capture_output=True).stdout for key in (a, b)]
    return der[0] == der[1] != b""

KINDS = {"provenance": "https://slsa.dev/provenance/v1", "test-result": "https://in-toto.io/attestation/test-result/v0.1"}

def opened(name, public):
    """The in-toto statement in a DSSE envelope, if the signature is of this key."""
    try:
        envelope = json.loads(read(*name.split("/")))
        payload = base64.b64decode(envelope["payload"])
        signature = base64.b64decode(envelope["signatures"][0]["sig"])
        statement = json.loads(payload)
        kind = envelope["payloadType"].encode()
        digests(statement), statement["predicate"].get, statement["predicateType"]
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        broken(name + ": truncated or altered")
    if not fits(public, signature, b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)):
        broken(name + ": does not fit, or another key")
    return statement

def digests(statement):
    return {s["name"]: s["digest"]["sha256"] for s in statement["subject"]}

def check():
    text = read("manifest.json")
    try:
        manifest = json.loads(text)
        files = manifest["files"]
        core = sorted((f["path"], f["sha256"]) for f in files if f["path"].startswith("core/"))
    except (ValueError, KeyError, TypeError):
        broken("manifest.json: truncated or altered")
    for file in files:
        path = file["path"]
        if path.startswith("/") or ".." in path.split("/") or os.path.islink(os.path.join(package, path)):
            broken(path + ": leads out of the package")
        data = read(*path.split("/"))
        if sha256(data) != file["sha256"] or len(data) != file["bytes"]:
            broken(path + ": changed since the package was built")
    listed = {f["path"] for f in files} | {"manifest.json", "manifest.sig", "signer.pem"}
    attested = {"attestations/%s.dsse.json" % name: name for name in manifest.get("attestations", [])}
    for folder, _, names in os.walk(package):
        for name in names:
            path = os.path.relpath(os.path.join(folder, name), package).replace(os.sep, "/")
            if path not in listed and path not in attested and not re.fullmatch(r"signatures/[a-z0-9-]+\.(pem|dsse\.json)", path):
                broken(path + ": not listed in the manifest")
    lines = "".join("%s  %s\n" % (hash, path) for path, hash in core)
    if sha256(lines.encode()) != manifest["root_hash"]:
        broken("manifest.json: the root hash does not follow from the files")
    if manifest["ledger"] is not None:
        previous, last = "0" * 64, None
        for number, line in enumerate(read("ledger.jsonl").splitlines(), 1):
            last = json.loads(line)
            if last["number"] != number or last["previous"] != previous:
                broken("ledger.jsonl, line %d: does not follow from the line before" % number)
            previous = sha256(line)
        if last is None or previous != manifest["ledger"] or last["root_hash"] != manifest["root_hash"]:
            broken("ledger.jsonl: does not end with this package")
    said = ["intact: %d files, root hash %s" % (len(files), manifest["root_hash"])]
    if manifest["signer"] is not None or "builder" in keys:
        public = read("signer.pem")
        if not fits(public, read("manifest.sig"), text) or ("builder" in keys and not same_key(public, keys["builder"])):
            broken("manifest.sig: does not fit, or another key")
        said.append("builder's signature fits")
    subject = {"core": manifest["root_hash"], "manifest.json": sha256(text)}
    for name, kind in sorted(attested.items()):
        statement = opened(name, read("signer.pem"))
        if kind not in KINDS or statement["predicateType"] != KINDS[kind] or digests(statement) != subject:
            broken(name + ": of another kind or package")
        said.append("statement of the builder: %s %s" % (kind, statement["predicate"].get("result", "")))
    place = os.path.join(package, "signatures")
    present = {name.split(".")[0] for name in (os.listdir(place) if os.path.isdir(place) else [])}
    for role in sorted(present | set(keys) - {"builder"}):
        name = "signatures/%s.dsse.json" % role
        public = read("signatures", role + ".pem")
        statement = opened(name, public)
        if role in keys and not same_key(public, keys[role]):
            broken(name + ": another key")
        if digests(statement) != subject or statement["predicate"].get("role") != role:
            broken(name + ": approves another package or role")
        said.append("%(role)s: %(name)s, %(meaning)s, %(date)s" % statement["predicate"])
    print("\n".join(said))

if len(sys.argv) < 2 or not all("=" in given for given in sys.argv[2:]):
    sys.exit(__doc__)
package, keys = sys.argv[1], {}
for given in sys.argv[2:]:
    role, file = given.split("=", 1)
    with open(file, "rb") as public:
        keys[role] = public.read()
check()
