#include "agent/llm/http.h"

#include <curl/curl.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>

#include "common/error.h"
#include "common/http.h"
#include "common/process.h"
#include "common/progress.h"
#include "common/text.h"

namespace autoresearch {
namespace {

using Clock = std::chrono::steady_clock;

constexpr long kConnectSeconds = 15;
constexpr size_t kMaxErrorBody = 64 << 10;
constexpr double kLongestWait = 7 * 86400;  // a server that names more is broken

struct Transfer {
  CURL* curl = nullptr;
  HttpResponse* response = nullptr;
  const std::function<bool(std::string_view)>* take = nullptr;
  bool enough = false;  // `take` wants no more
  double silence_seconds = 0, stall_seconds = 0;
  bool begun = false;     // a header came
  bool answered = false;  // a byte of the body came
  bool stalled = false;
  double longest() const { return begun ? stall_seconds : silence_seconds; }
  curl_off_t bytes = 0;  // up and down, when something moved last
  Clock::time_point moved = Clock::now();
};

template <typename T, void (*kFree)(T*)>
struct Owner {
  T* handle = nullptr;
  explicit Owner(T* handle) : handle(handle) {}
  ~Owner() { kFree(handle); }
  Owner(const Owner&) = delete;
  Owner& operator=(const Owner&) = delete;
};

void free_list(curl_slist* list) { curl_slist_free_all(list); }
void free_curl(CURL* curl) { curl_easy_cleanup(curl); }

// A count other than the one it was given ends the transfer.
size_t on_body(char* data, size_t size, size_t count, void* context) {
  auto& transfer = *static_cast<Transfer*>(context);
  const std::string_view piece(data, size * count);
  transfer.answered = true;
  long status = 0;
  curl_easy_getinfo(transfer.curl, CURLINFO_RESPONSE_CODE, &status);
  if (status >= 200 && status < 300) {
    transfer.enough = !(*transfer.take)(piece);
    return transfer.enough ? 0 : piece.size();
  }
  std::string& body = transfer.response->error_body;
  body += piece.substr(0, kMaxErrorBody - std::min(body.size(), kMaxErrorBody));
  return piece.size();
}

size_t on_header(char* data, size_t size, size_t count, void* context) {
  auto& transfer = *static_cast<Transfer*>(context);
  transfer.begun = true;
  transfer.moved = Clock::now();
  auto& headers = transfer.response->headers;
  const std::string_view line(data, size * count);
  const size_t colon = line.find(':');
  if (colon == std::string_view::npos || headers.size() > 200) return line.size();
  headers[lower(trim(line.substr(0, colon)))] = trim(line.substr(colon + 1));
  return line.size();
}

// Called at least once a second. (curl's own low-speed limit looks at an average and comes late.)
int watch(void* context, curl_off_t, curl_off_t down, curl_off_t, curl_off_t up) {
  auto& transfer = *static_cast<Transfer*>(context);
  const auto now = Clock::now();
  if (down + up != transfer.bytes) transfer.moved = now;
  transfer.bytes = down + up;
  transfer.stalled =
      std::chrono::duration<double>(now - transfer.moved).count() > transfer.longest();
  return interrupt_requested() || transfer.stalled ? 1 : 0;
}

void start_curl_once() {
  static const CURLcode code = curl_global_init(CURL_GLOBAL_DEFAULT);
  check(code == CURLE_OK, "libcurl can't start: " + std::string(curl_easy_strerror(code)));
}

void set_options(const HttpPost& request, const curl_slist* headers, Transfer& transfer,
                 char* problem) {
  CURL* curl = transfer.curl;
  curl_easy_setopt(curl, CURLOPT_URL, request.url.c_str());
  if (is_loopback(request.url)) curl_easy_setopt(curl, CURLOPT_PROXY, "");
  const Authorities trusted = authorities();  // libcurl copies what it is given
  if (!trusted.file.empty()) curl_easy_setopt(curl, CURLOPT_CAINFO, trusted.file.c_str());
  if (!trusted.folder.empty()) curl_easy_setopt(curl, CURLOPT_CAPATH, trusted.folder.c_str());
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_ACCEPT_ENCODING, "");
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, kConnectSeconds);
  curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, std::lround(1000 * request.limit_seconds));
  curl_easy_setopt(curl, CURLOPT_TCP_KEEPALIVE, 1L);
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
  curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request.body.data());
  curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body.size()));
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &transfer);
  curl_easy_setopt(curl, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);  // a proxy's are no answer
  curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
  curl_easy_setopt(curl, CURLOPT_HEADERDATA, &transfer);
  curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, watch);
  curl_easy_setopt(curl, CURLOPT_XFERINFODATA, &transfer);
  curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, problem);
}

HttpResponse::Failure failure_of(CURLcode code, CURL* curl) {
  using Failure = HttpResponse::Failure;
  double connected = 0;
  curl_easy_getinfo(curl, CURLINFO_PRETRANSFER_TIME, &connected);
  switch (code) {
    case CURLE_OK:
      return Failure::kNone;
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
      return Failure::kUnknownHost;
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
      return Failure::kBadAddress;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
      return Failure::kUntrusted;
    case CURLE_ABORTED_BY_CALLBACK:
      return Failure::kInterrupted;
    case CURLE_OPERATION_TIMEDOUT:
      return connected > 0 ? Failure::kStalled : Failure::kUnreachable;
    default:
      return connected > 0 ? Failure::kDropped : Failure::kUnreachable;
  }
}

// A header's number of seconds, 0 where it is no plain number.
double seconds_in(const HttpResponse& response, const char* name) {
  const auto header = response.headers.find(name);
  if (header == response.headers.end()) return 0;
  char* end = nullptr;
  const double value = std::strtod(header->second.c_str(), &end);
  return *end == '\0' && std::isfinite(value) ? std::max(0.0, value) : 0;
}

// curl reads Retry-After in both its forms, seconds and an HTTP date, but cuts fractions off; the
// milliseconds are Azure's and OpenAI's own.
double retry_after_of(CURL* curl, const HttpResponse& response) {
  curl_off_t seconds = 0;
  curl_easy_getinfo(curl, CURLINFO_RETRY_AFTER, &seconds);
  double wait = std::max(static_cast<double>(seconds), seconds_in(response, "retry-after"));
  if (const double ms = seconds_in(response, "retry-after-ms"); ms > 0) wait = ms / 1000;
  return std::clamp(wait, 0.0, kLongestWait);
}

}  // namespace

HttpResponse post(const HttpPost& request, const std::function<bool(std::string_view)>& take) {
  start_curl_once();
  HttpResponse response;
  char problem[CURL_ERROR_SIZE] = "";
  Owner<CURL, free_curl> curl(curl_easy_init());
  check(curl.handle != nullptr, "libcurl has no memory for another call");
  Owner<curl_slist, free_list> list(nullptr);
  for (const std::string& header : request.headers) {
    list.handle = curl_slist_append(list.handle, header.c_str());
  }
  Transfer transfer{curl.handle, &response, &take};
  transfer.silence_seconds = request.silence_seconds;
  transfer.stall_seconds = request.stall_seconds;
  set_options(request, list.handle, transfer, problem);
  const CURLcode code = curl_easy_perform(curl.handle);
  if (!transfer.enough) response.failure = failure_of(code, curl.handle);
  if (response.failure != HttpResponse::Failure::kNone) {
    response.problem = *problem ? problem : curl_easy_strerror(code);
  }
  if (transfer.stalled && !interrupt_requested()) {
    response.failure = HttpResponse::Failure::kStalled;
    response.problem = "nothing came for " + human_seconds(transfer.longest());
  }
  if (const auto proxy = proxy_for(request.url))
    response.proxy = proxy->address + " of $" + proxy->variable;
  response.silent = response.failure == HttpResponse::Failure::kStalled && !transfer.answered;
  curl_easy_getinfo(curl.handle, CURLINFO_RESPONSE_CODE, &response.status);
  response.retry_after = retry_after_of(curl.handle, response);
  const char* location = nullptr;
  curl_easy_getinfo(curl.handle, CURLINFO_REDIRECT_URL, &location);
  response.location = location ? location : "";
  return response;
}

std::string origin_of(const std::string& url) {
  Owner<CURLU, curl_url_cleanup> parsed(curl_url());
  if (curl_url_set(parsed.handle, CURLUPART_URL, url.c_str(), 0) != CURLUE_OK) return "";
  const auto part = [&](CURLUPart which) {
    char* text = nullptr;
    curl_url_get(parsed.handle, which, &text, CURLU_DEFAULT_PORT);
    const std::string copy = text ? text : "";
    curl_free(text);
    return lower(copy);
  };
  return part(CURLUPART_SCHEME) + "://" + part(CURLUPART_HOST) + ":" + part(CURLUPART_PORT);
}

std::string shown_url(const std::string& url) {
  std::string text = url.substr(0, url.find_first_of("?#"));
  const size_t scheme = text.find("://");
  const size_t begin = scheme == std::string::npos ? 0 : scheme + 3;
  const size_t host_end = std::min(text.find('/', begin), text.size());
  const size_t at = text.rfind('@', host_end);
  if (at != std::string::npos && at >= begin && at < host_end) text.erase(begin, at + 1 - begin);
  return text;
}

}  // namespace autoresearch
