#include "common/curl.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "common/error.h"
#include "common/http.h"
#include "common/text.h"

namespace autoresearch {
namespace {

constexpr long kConnectSeconds = 15;
constexpr size_t kMostHeaders = 200;
constexpr double kLongestWait = 7 * 86400;  // seconds; a server that names more is broken

// A plain number of seconds, 0 if it is none.
double seconds_in(const std::string& text) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  return *end == '\0' && std::isfinite(value) ? std::max(0.0, value) : 0;
}

}  // namespace

void add_header(HttpHeaders& headers, std::string_view line) {
  if (line.starts_with("HTTP/")) headers.clear();
  const size_t colon = line.find(':');
  if (colon == std::string_view::npos || headers.size() >= kMostHeaders) return;
  headers[lower(trim(line.substr(0, colon)))] = trim(line.substr(colon + 1));
}

std::string header(const HttpHeaders& headers, const std::string& name) {
  const auto field = headers.find(name);
  return field == headers.end() ? "" : field->second;
}

void start_curl() {
  static const CURLcode code = curl_global_init(CURL_GLOBAL_DEFAULT);
  check(code == CURLE_OK, "libcurl can't start: " + std::string(curl_easy_strerror(code)));
}

CurlRequest::CurlRequest(const std::string& url, const std::vector<std::string>& lines) {
  start_curl();
  curl_ = curl_easy_init();
  check(curl_ != nullptr, "libcurl has no memory for another request");
  for (const std::string& line : lines) lines_ = curl_slist_append(lines_, line.c_str());
  set(CURLOPT_URL, url.c_str());  // libcurl copies the texts that it is given
  set(CURLOPT_HTTPHEADER, lines_);
  set(CURLOPT_PROTOCOLS_STR, "http,https");
  if (is_loopback(url)) set(CURLOPT_PROXY, "");
  set(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);  // a proxy's are no answer
  const Authorities trusted = authorities();
  if (!trusted.file.empty()) set(CURLOPT_CAINFO, trusted.file.c_str());
  if (!trusted.folder.empty()) set(CURLOPT_CAPATH, trusted.folder.c_str());
  set(CURLOPT_NOSIGNAL, 1L);
  set(CURLOPT_CONNECTTIMEOUT, kConnectSeconds);
  set(CURLOPT_TCP_KEEPALIVE, 1L);
  set(CURLOPT_ERRORBUFFER, problem_);
}

CurlRequest::~CurlRequest() {
  curl_easy_cleanup(curl_);
  curl_slist_free_all(lines_);
}

std::string CurlRequest::problem(CURLcode code) const {
  return *problem_ ? problem_ : curl_easy_strerror(code);
}

std::string CurlRequest::proxy(const std::string& url) {
  const auto proxy = proxy_for(url);
  return proxy ? proxy->address + " of $" + proxy->variable : "";
}

// libcurl reads Retry-After in both its forms, seconds and an HTTP date, but cuts fractions off.
// The milliseconds are Azure's and OpenAI's own. Hugging Face sends "RateLimit: ...;t=SECONDS" with
// a refusal, and with what it grants, where it asks for nothing.
double CurlRequest::retry_after(const HttpHeaders& headers) const {
  double wait = std::max(static_cast<double>(get<curl_off_t>(CURLINFO_RETRY_AFTER)),
                         seconds_in(header(headers, "retry-after")));
  if (const double ms = seconds_in(header(headers, "retry-after-ms")); ms > 0) wait = ms / 1000;
  const std::string limit = header(headers, "ratelimit");
  const size_t reset = limit.find(";t=");
  if (header(headers, "retry-after").empty() && wait <= 0 && status() >= 400 &&
      reset != std::string::npos)
    wait = std::atof(limit.c_str() + reset + 3);
  return std::clamp(wait, 0.0, kLongestWait);
}

}  // namespace autoresearch
