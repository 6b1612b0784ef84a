#include "prepare/fetch.h"

#include <fmt/format.h>

#include <charconv>
#include <ctime>
#include <exception>
#include <optional>
#include <string_view>
#include <vector>

#include "common/curl.h"
#include "common/http.h"
#include "common/text.h"

namespace autoresearch {
namespace {

using Kind = Outcome::Kind;

constexpr long kMostRedirects = 10;
constexpr long kBuffer = 256 << 10;     // bytes
constexpr long kLeastRate = 100;        // bytes/s, below which a connection counts as stalled
constexpr double kSettledSeconds = 60;  // a date younger than this may be that of two contents

// A number of bytes, written in digits only.
std::optional<int64_t> number(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size() || value < 0)
    return std::nullopt;
  return value;
}

// By which a content is known again: a strong ETag, else a date that was past when the response was
// made.
std::string validator_of(const HttpHeaders& headers) {
  const std::string etag = header(headers, "etag");
  if (etag.starts_with('"')) return etag;
  const std::string modified = header(headers, "last-modified");
  const time_t then = curl_getdate(modified.c_str(), nullptr);
  const time_t now = curl_getdate(header(headers, "date").c_str(), nullptr);
  if (then < 0 || now < 0 || std::difftime(now, then) < kSettledSeconds) return "";
  return modified;
}

// What is still missing of a file, asked for.
std::vector<std::string> header_lines(const PartFile& part) {
  if (part.size() == 0) return {};
  return {fmt::format("Range: bytes={}-", part.size())};
}

class Fetch {
 public:
  Fetch(const std::string& url, const std::string& token, long stall, PartFile& part,
        const std::atomic<bool>& stop)
      : url_(url),
        has_token_(!token.empty()),
        part_(part),
        stop_(stop),
        asked_from_(part.size()),
        request_(url, header_lines(part)) {
    set_options(token, stall);
  }

  Outcome run();

 private:
  static size_t on_header(char* data, size_t size, size_t count, void* fetch);
  static size_t on_body(char* data, size_t size, size_t count, void* fetch);
  static int on_progress(void* fetch, curl_off_t, curl_off_t, curl_off_t, curl_off_t);
  void set_options(const std::string& token, long stall);
  void accept();
  void take(const Content& content);
  void write(std::string_view bytes);
  Outcome broken(CURLcode code) const;
  Outcome refused();
  std::string linked_sha256() const;

  const std::string url_;
  const bool has_token_;
  PartFile& part_;
  const std::atomic<bool>& stop_;
  const int64_t asked_from_;
  CurlRequest request_;
  HttpHeaders headers_;  // of the last response
  // Of any response on the way: a hub that redirects tells here what the file behind is. Hugging
  // Face: X-Linked-Size, and X-Linked-Etag, the SHA-256 of what is stored by content. The last
  // host's ETag may have 64 digits as well, but then it is another hash.
  std::string linked_size_, linked_etag_;
  bool accepted_ = false;
  bool is_known_ = true;            // the content, to a later request
  std::optional<Outcome> refusal_;  // why the body isn't taken
  std::exception_ptr disk_error_;   // carried past libcurl, which knows no exceptions
};

void Fetch::set_options(const std::string& token, long stall) {
  // Whoever asked for TLS gets it to the end.
  const bool tls = lower(url_).starts_with("https:");
  request_.set(CURLOPT_REDIR_PROTOCOLS_STR, tls ? "https" : "http,https");
  request_.set(CURLOPT_FOLLOWLOCATION, 1L);
  request_.set(CURLOPT_MAXREDIRS, kMostRedirects);
  // Over HTTP/2 all files would share one connection, and with it the speed of one.
  request_.set(CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1);
  // libcurl itself keeps the token from other hosts, ports and schemes after a redirect.
  if (has_token_) {
    request_.set(CURLOPT_HTTPAUTH, CURLAUTH_BEARER);
    request_.set(CURLOPT_XOAUTH2_BEARER, token.c_str());
  }
  request_.set(CURLOPT_USERAGENT, "autoresearch");
  request_.set(CURLOPT_BUFFERSIZE, kBuffer);
  request_.set(CURLOPT_HEADERFUNCTION, on_header);
  request_.set(CURLOPT_HEADERDATA, this);
  request_.set(CURLOPT_WRITEFUNCTION, on_body);
  request_.set(CURLOPT_WRITEDATA, this);
  request_.set(CURLOPT_LOW_SPEED_LIMIT, kLeastRate);
  request_.set(CURLOPT_LOW_SPEED_TIME, stall);
  request_.set(CURLOPT_NOPROGRESS, 0L);
  request_.set(CURLOPT_XFERINFOFUNCTION, on_progress);
  request_.set(CURLOPT_XFERINFODATA, this);
}

int Fetch::on_progress(void* fetch, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  return static_cast<Fetch*>(fetch)->stop_;
}

size_t Fetch::on_header(char* data, size_t size, size_t count, void* fetch) {
  Fetch& self = *static_cast<Fetch*>(fetch);
  add_header(self.headers_, {data, size * count});
  if (const auto linked = header(self.headers_, "x-linked-size"); !linked.empty())
    self.linked_size_ = linked;
  if (const auto linked = header(self.headers_, "x-linked-etag"); !linked.empty())
    self.linked_etag_ = linked;
  return size * count;
}

// Returning fewer bytes than came ends the request.
size_t Fetch::on_body(char* data, size_t size, size_t count, void* fetch) {
  Fetch& self = *static_cast<Fetch*>(fetch);
  try {
    if (!self.accepted_) self.accept();
    if (!self.refusal_) self.write({data, size * count});
  } catch (...) {
    self.disk_error_ = std::current_exception();
  }
  return !self.refusal_ && !self.disk_error_ ? size * count : 0;
}

void Fetch::write(std::string_view bytes) {
  if (part_.size() + static_cast<int64_t>(bytes.size()) > part_.whole_size()) {
    refusal_ = {Kind::kAgain, "the server sent more bytes than it announced"};
  } else {
    part_.append(bytes);
  }
}

// Once the headers are in: where does the body belong?
void Fetch::accept() {
  accepted_ = true;
  const long status = request_.status();
  if (status != 200 && status != 206) {
    refusal_ = {status < 300 ? Kind::kAgain : Kind::kNever,
                fmt::format("{} answered {}", host_and_port(url_), status)};
    return;
  }
  const std::string range = lower(header(headers_, "content-range"));  // "bytes 10-19/100"
  if (status == 206 && !range.starts_with(fmt::format("bytes {}-", asked_from_))) {
    part_.discard();  // asked again, it would do so again
    refusal_ = {Kind::kAgain, "the server sent another range than it was asked for"};
    return;
  }
  const auto told = number(status == 200 ? header(headers_, "content-length")
                                         : range.substr(range.find('/') + 1));
  const auto linked = number(linked_size_);
  auto size = told ? told : linked;
  if (!size && status == 206 && asked_from_ > 0 && part_.whole_size() >= 0) {
    size = part_.whole_size();  // "bytes 10-19/*": the first answer has told it
  }
  if (!size) {
    refusal_ = {Kind::kNever, host_and_port(url_) + " does not say how long the file is"};
  } else if (linked && *linked != *size) {
    refusal_ = {Kind::kAgain,
                fmt::format("the server sends {} bytes where the hub names {}", *size, *linked)};
  } else {
    take({url_, *size, validator_of(headers_), linked_sha256()});
  }
}

void Fetch::take(const Content& content) {
  is_known_ = content.is_known();
  if (request_.status() == 200 || asked_from_ == 0) return part_.restart(content);
  if (part_.goes_on(content)) return;
  part_.discard();
  refusal_ = {Kind::kAgain, "the file has changed on the server"};
}

// The SHA-256 in X-Linked-Etag; small files have a git hash there, which is shorter.
std::string Fetch::linked_sha256() const {
  std::string digits = lower(linked_etag_);
  std::erase(digits, '"');
  const bool hex = digits.find_first_not_of("0123456789abcdef") == std::string::npos;
  return digits.size() == 64 && hex ? digits : "";
}

Outcome Fetch::run() {
  const CURLcode code = curl_easy_perform(request_.handle());
  if (disk_error_) std::rethrow_exception(disk_error_);
  if (code == CURLE_OK && !accepted_) accept();  // a body of no bytes
  if (request_.status() >= 400) return refused();
  // The last byte counts, however the connection ended after it.
  if (!refusal_ && accepted_ && part_.whole()) return {Kind::kWhole, ""};
  const Outcome outcome = refusal_ ? *refusal_ : broken(code);
  if (!is_known_) part_.discard();
  return outcome;
}

Outcome Fetch::broken(CURLcode code) const {
  const bool connected = request_.get<curl_off_t>(CURLINFO_CONNECT_TIME_T) > 0;
  if (code == CURLE_OPERATION_TIMEDOUT && connected) {
    return {Kind::kAgain, "the connection stalled"};
  }
  if (accepted_) {
    return {Kind::kAgain, fmt::format("the connection ended after {} of {} bytes", part_.size(),
                                      part_.whole_size())};
  }
  const char* effective = request_.get<const char*>(CURLINFO_EFFECTIVE_URL);
  const std::string url = effective ? effective : url_;
  const std::string proxy = CurlRequest::proxy(url);
  const std::string reason =
      fmt::format("can't reach {}{}{}: {}", host_and_port(url), proxy.empty() ? "" : " through ",
                  proxy, request_.problem(code));
  switch (code) {
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
      return {Kind::kNever, reason + certificate_advice()};
    case CURLE_URL_MALFORMAT:
    case CURLE_TOO_MANY_REDIRECTS:
      return {Kind::kNever, reason};
    default:
      return {Kind::kAgain, reason};
  }
}

// What a status of 400 and more means.
Outcome Fetch::refused() {
  const long code = request_.status();
  const std::string answered = fmt::format("{} answered {}", host_and_port(url_), code);
  const auto redirects = request_.get<long>(CURLINFO_REDIRECT_COUNT);
  if (code == 416 && asked_from_ > 0) {
    part_.discard();
    return {Kind::kAgain, "the file has become shorter on the server"};
  }
  if (code == 408 || code == 425 || code == 429 || code >= 500)
    return {Kind::kAgain, answered, request_.retry_after(headers_)};
  // Another host's refusal is about its signed and short-lived address, and the next is a new one.
  if (redirects > 0) return {Kind::kAgain, answered + " behind a redirect"};
  if (code == 401 || code == 403) {
    return {Kind::kNever,
            answered + (!has_token_ ? "; set HF_TOKEN to a token that may read the dataset"
                                    : "; check that the token in HF_TOKEN is valid and may "
                                      "read the dataset")};
  }
  if (code == 404 || code == 410)
    return {Kind::kNever, answered + ": not found; check --base-url and HF_ENDPOINT"};
  return {Kind::kNever, answered};
}

}  // namespace

Outcome fetch(const std::string& url, const std::string& token, long stall, PartFile& part,
              const std::atomic<bool>& stop) {
  return Fetch(url, token, stall, part, stop).run();
}

}  // namespace autoresearch
