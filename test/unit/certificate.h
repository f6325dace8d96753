// Certificates made at test time by OpenSSL, for servers on 127.0.0.1 and for clients.
#pragma once

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <catch2/catch_test_macros.hpp>
#include <memory>
#include <string>

namespace casa::test {

// A certificate: its own authority unless `issuer` is given. `names`: subjectAltName as openssl writes it.
struct Certificate {
  std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key{EVP_EC_gen("P-256"), EVP_PKEY_free};
  std::unique_ptr<X509, decltype(&X509_free)> x509{X509_new(), X509_free};

  Certificate(const std::string& names, const Certificate* issuer, long from_seconds = -3600, long to_seconds = 3600) {
    static long serial = 1;
    X509* cert = x509.get();
    X509_set_version(cert, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), ++serial);
    X509_gmtime_adj(X509_getm_notBefore(cert), from_seconds);
    X509_gmtime_adj(X509_getm_notAfter(cert), to_seconds);
    X509_set_pubkey(cert, key.get());
    std::string name = "casad test " + std::to_string(serial);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC,
                               reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
    X509_set_issuer_name(cert, X509_get_subject_name(issuer != nullptr ? issuer->x509.get() : cert));
    add(issuer != nullptr ? NID_subject_alt_name : NID_basic_constraints,
        issuer != nullptr ? names : "critical,CA:TRUE");
    REQUIRE(X509_sign(cert, (issuer != nullptr ? *issuer : *this).key.get(), EVP_sha256()) != 0);
  }

  [[nodiscard]] std::string pem() const {
    return text_of([&](BIO* bio) { PEM_write_bio_X509(bio, x509.get()); });
  }
  [[nodiscard]] std::string key_pem() const {
    return text_of([&](BIO* bio) { PEM_write_bio_PrivateKey(bio, key.get(), nullptr, nullptr, 0, nullptr, nullptr); });
  }

 private:
  void add(int kind, const std::string& value) {
    X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, nullptr, kind, value.c_str());
    REQUIRE(extension != nullptr);
    X509_add_ext(x509.get(), extension, -1);
    X509_EXTENSION_free(extension);
  }
  template <typename Write>
  static std::string text_of(Write write) {
    BIO* bio = BIO_new(BIO_s_mem());
    write(bio);
    char* bytes = nullptr;
    long length = BIO_get_mem_data(bio, &bytes);
    std::string text(bytes, static_cast<std::size_t>(length));
    BIO_free(bio);
    return text;
  }
};

}  // namespace casa::test
