// What everything that speaks HTTP takes from the environment: certificates and proxies. Both are
// the machine's, not the program's, and libcurl alone looks at half of it. Pure but for the
// environment; libcurl itself is in common/curl.h.
#pragma once

#include <optional>
#include <string>

namespace autoresearch {

// "host:port" of a URL in lower case, without user, password, path and query.
std::string host_and_port(const std::string& url);

// Whether a URL leads to this machine itself (127.0.0.0/8, ::1, localhost, 0.0.0.0), which no proxy
// can reach on our behalf.
bool is_loopback(const std::string& url);

// The authorities that the environment names, as OpenSSL, curl and Python's requests read it.
struct Authorities {
  std::string file, folder;  // of PEM certificates; empty: libcurl's own
  std::string variable;      // that named the file, else the folder; empty: none did
};
Authorities authorities();

// What to do about a certificate that is not trusted, as the end of a message.
std::string certificate_advice();

// The proxy that libcurl takes for a URL.
struct Proxy {
  std::string variable;  // the environment variable that names it
  std::string address;   // host and port, without user and password
};
std::optional<Proxy> proxy_for(const std::string& url);

}  // namespace autoresearch
