#include "agent/llm/http.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>

#include "common/curl.h"
#include "common/process.h"
#include "common/progress.h"
#include "common/text.h"

namespace autoresearch {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kMaxErrorBody = 64 << 10;

struct Transfer {
  CurlRequest* curl;
  HttpResponse* response;
  const std::function<bool(std::string_view)>* take;
  Patience patience;
  bool enough = false;    // `take` wants no more
  bool begun = false;     // a header came
  bool answered = false;  // a byte of the body came
  bool stalled = false;
  double longest() const { return begun ? patience.stall : patience.silence; }
  curl_off_t bytes = 0;  // up and down, when something moved last
  Clock::time_point moved = Clock::now();
};

// A count other than the one it was given ends the transfer.
size_t on_body(char* data, size_t size, size_t count, void* context) {
  auto& transfer = *static_cast<Transfer*>(context);
  const std::string_view piece(data, size * count);
  transfer.answered = true;
  const long status = transfer.curl->status();
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
  add_header(transfer.response->headers, {data, size * count});
  return size * count;
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

void set_options(const HttpPost& request, Transfer& transfer) {
  CurlRequest& curl = *transfer.curl;
  curl.set(CURLOPT_FOLLOWLOCATION, 0L);
  curl.set(CURLOPT_ACCEPT_ENCODING, "");
  curl.set(CURLOPT_TIMEOUT_MS, std::lround(1000 * request.patience.limit));
  curl.set(CURLOPT_POSTFIELDS, request.body.data());
  curl.set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body.size()));
  curl.set(CURLOPT_WRITEFUNCTION, on_body);
  curl.set(CURLOPT_WRITEDATA, &transfer);
  curl.set(CURLOPT_HEADERFUNCTION, on_header);
  curl.set(CURLOPT_HEADERDATA, &transfer);
  curl.set(CURLOPT_XFERINFOFUNCTION, watch);
  curl.set(CURLOPT_XFERINFODATA, &transfer);
  curl.set(CURLOPT_NOPROGRESS, 0L);
}

HttpResponse::Failure failure_of(CURLcode code, const CurlRequest& curl) {
  using Failure = HttpResponse::Failure;
  const auto connected = curl.get<double>(CURLINFO_PRETRANSFER_TIME);
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

}  // namespace

HttpResponse post(const HttpPost& request, const std::function<bool(std::string_view)>& take) {
  HttpResponse response;
  CurlRequest curl(request.url, request.headers);
  Transfer transfer{&curl, &response, &take, request.patience};
  set_options(request, transfer);
  const CURLcode code = curl_easy_perform(curl.handle());
  if (!transfer.enough) response.failure = failure_of(code, curl);
  if (response.failure != HttpResponse::Failure::kNone) response.problem = curl.problem(code);
  if (transfer.stalled && !interrupt_requested()) {
    response.failure = HttpResponse::Failure::kStalled;
    response.problem = "nothing came for " + human_seconds(transfer.longest());
  }
  response.proxy = CurlRequest::proxy(request.url);
  response.silent = response.failure == HttpResponse::Failure::kStalled && !transfer.answered;
  response.status = curl.status();
  response.retry_after = curl.retry_after(response.headers);
  const char* location = curl.get<const char*>(CURLINFO_REDIRECT_URL);
  response.location = location ? location : "";
  return response;
}

std::string origin_of(const std::string& url) {
  const std::unique_ptr<CURLU, decltype(&curl_url_cleanup)> parsed(curl_url(), curl_url_cleanup);
  if (curl_url_set(parsed.get(), CURLUPART_URL, url.c_str(), 0) != CURLUE_OK) return "";
  const auto part = [&](CURLUPart which) {
    char* text = nullptr;
    curl_url_get(parsed.get(), which, &text, CURLU_DEFAULT_PORT);
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
