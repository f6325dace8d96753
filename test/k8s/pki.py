"""The keys of a test cluster, made with openssl: a CA, the API server's certificate, client certificates, and the key that signs the tokens
of service accounts."""
import subprocess


class Pki:
    """directory: is made here, with all files in it (PEM)."""

    def __init__(self, directory, server_names):
        """server_names: as subjectAltName has them, e.g. "DNS:localhost", "IP:127.0.0.1"."""
        self.directory = directory
        directory.mkdir(mode=0o700)
        self.ca, self._ca_key = directory / "ca.crt", directory / "ca.key"
        self.account_key = directory / "accounts.key"
        self._openssl("req", "-x509", *_NEW_KEY, "-keyout", self._ca_key, "-out", self.ca, "-days", "30", "-subj", "/CN=test-cluster",
                      "-addext", "keyUsage=critical,keyCertSign,cRLSign")
        self._openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", self.account_key)
        self.server = self._certificate("server", "/CN=kube-apiserver", "extendedKeyUsage=serverAuth",
                                        "subjectAltName=" + ",".join(server_names))

    def client(self, user, groups=()):
        """(certificate, key): the paths of what makes a client this user, in these groups"""
        return self._certificate(user.replace(":", "-"), "".join(f"/O={g}" for g in groups) + f"/CN={user}", "extendedKeyUsage=clientAuth")

    def _certificate(self, file, subject, *extensions):
        certificate, key, request = (self.directory / f"{file}.{end}" for end in ("crt", "key", "csr"))
        self._openssl("req", *_NEW_KEY, "-keyout", key, "-out", request, "-subj", subject)
        self._openssl("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self._ca_key, "-CAcreateserial", "-days", "30", "-out", certificate,
                      "-extfile", "/dev/stdin", text="\n".join(extensions))
        return certificate, key

    @staticmethod
    def _openssl(*arguments, text=""):
        done = subprocess.run(["openssl", *map(str, arguments)], input=text, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30)
        if done.returncode != 0:
            raise RuntimeError(f"openssl {' '.join(map(str, arguments))}: {done.stdout}")


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
