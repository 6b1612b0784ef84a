// One streaming HTTP request, on libcurl. No redirect is followed: a key belongs to the host that
// the user named. What is on this machine is asked without a proxy. Knows nothing of models.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace autoresearch {

// How long the other side may be silent, in seconds, or the request has failed.
struct Patience {
  double silence = 300;  // until the first header of its answer
  double stall = 300;    // without a byte from then on
  double limit = 900;    // for all of one answer
};

struct HttpPost {
  std::string url, body;
  std::vector<std::string> headers = {};  // "Name: value"
  Patience patience = {};
};

struct HttpResponse {
  enum class Failure {
    kNone,
    kBadAddress,   // no such scheme, no URL
    kUntrusted,    // the certificate, or the file of authorities that should vouch for it
    kUnknownHost,  // its name was not found: a mistake, or no network for now
    kUnreachable,  // no connection, so the request was never sent
    kDropped,      // the connection ended early
    kStalled,      // the patience is at its end
    kInterrupted,  // interrupt_requested()
  };
  Failure failure = Failure::kNone;
  std::string problem;  // libcurl's words for a failure
  std::string proxy;    // "HOST:PORT of $https_proxy", if the request went through one
  bool silent = false;  // kStalled before the first byte of an answer
  long status = 0;
  std::map<std::string, std::string> headers;  // names in lower case
  std::string error_body;                      // of a status of 300 and more, at most 64 KiB
  std::string location;                        // of a redirect that was not followed
  double retry_after = 0;  // seconds, from retry-after-ms or Retry-After; 0: none named
};

// POSTs and hands the body of a 2xx to `take`, piece by piece, until that returns false: it has
// seen enough, which is no failure. Throws Error only where libcurl itself can't work.
HttpResponse post(const HttpPost& request, const std::function<bool(std::string_view)>& take);

// "https://host:port" of a URL, in lower case, the scheme's own port where it names none; empty
// where it is no URL.
std::string origin_of(const std::string& url);

// A URL without user, password and query, fit for a line that a user reads.
std::string shown_url(const std::string& url);

}  // namespace autoresearch
