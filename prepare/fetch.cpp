#include "prepare/fetch.h"

#include <fmt/format.h>

#include <charconv>
#include <ctime>
#include <optional>
#include <vector>

#include "common/error.h"
#include "common/http.h"
#include "common/text.h"

namespace autoresearch {
namespace {

using Kind = Outcome::Kind;

constexpr long kMostRedirects = 10;
constexpr long kBuffer = 256 << 10;     // bytes
constexpr double kSettledSeconds = 60;  // a date younger than this may be that of two contents

// A number of bytes, written in digits only.
std::optional<int64_t> number(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size() || value < 0)
    return std::nullopt;
  return value;
}

// "bytes 10-19/100" or "bytes 10-19/*".
struct ContentRange {
  int64_t first;
  std::optional<int64_t> size;
};

std::optional<ContentRange> parse_content_range(const std::string& text) {
  const size_t dash = text.find('-'), slash = text.find('/');
  if (!lower(text).starts_with("bytes ") || dash == std::string::npos || slash == std::string::npos)
    return std::nullopt;
  const auto first = number(trim(std::string_view(text).substr(6, dash - 6)));
  const std::string size = text.substr(slash + 1);
  if (!first || (size != "*" && !number(size))) return std::nullopt;
  return ContentRange{*first, number(size)};
}

// What If-Range may send: a strong ETag, else a date that was past when the response was made.
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
  std::vector<std::string> lines = {fmt::format("Range: bytes={}-", part.size())};
  if (const std::string& validator = part.content().validator; !validator.empty())
    lines.push_back("If-Range: " + validator);
  return lines;
}

}  // namespace

Fetch::Fetch(CURLM* multi, const std::string& url, const std::string& token, PartFile& part)
    : multi_(multi),
      url_(url),
      token_(token),
      part_(part),
      asked_from_(part.size()),
      request_(url, header_lines(part)) {
  set_options();
  curl_multi_add_handle(multi_, handle());
}

Fetch::~Fetch() { curl_multi_remove_handle(multi_, handle()); }

void Fetch::set_options() {
  // Whoever asked for TLS gets it to the end.
  const bool tls = lower(url_).starts_with("https:");
  request_.set(CURLOPT_REDIR_PROTOCOLS_STR, tls ? "https" : "http,https");
  request_.set(CURLOPT_FOLLOWLOCATION, 1L);
  request_.set(CURLOPT_MAXREDIRS, kMostRedirects);
  // Over HTTP/2 all files would share one connection, and with it the speed of one.
  request_.set(CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1);
  // libcurl itself keeps the token from other hosts, ports and schemes after a redirect.
  if (!token_.empty()) {
    request_.set(CURLOPT_HTTPAUTH, CURLAUTH_BEARER);
    request_.set(CURLOPT_XOAUTH2_BEARER, token_.c_str());
  }
  request_.set(CURLOPT_USERAGENT, "autoresearch");
  request_.set(CURLOPT_BUFFERSIZE, kBuffer);
  request_.set(CURLOPT_HEADERFUNCTION, on_header);
  request_.set(CURLOPT_HEADERDATA, this);
  request_.set(CURLOPT_WRITEFUNCTION, on_body);
  request_.set(CURLOPT_WRITEDATA, this);
  request_.set(CURLOPT_PRIVATE, this);
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
  received_ += static_cast<int64_t>(bytes.size());
  if (part_.size() + static_cast<int64_t>(bytes.size()) > part_.content().size) {
    refusal_ = {Kind::kAgain, "the server sent more bytes than it announced"};
  } else {
    part_.append(bytes);
  }
}

// Once the headers are in: where does the body belong?
void Fetch::accept() {
  accepted_ = true;
  if (request_.status() == 200) {
    accept_whole();
  } else if (request_.status() == 206) {
    accept_range();
  } else {
    const Kind kind = request_.status() < 300 ? Kind::kAgain : Kind::kNever;
    refusal_ = {kind, fmt::format("{} answered {}", host_and_port(url_), request_.status())};
  }
}

void Fetch::accept_whole() {
  const auto length = number(header(headers_, "content-length")), linked = number(linked_size_);
  const std::optional<int64_t> size = length ? length : linked;
  if (!size) {
    refusal_ = {Kind::kNever, host_and_port(url_) + " does not say how long the file is"};
  } else if (linked && *linked != *size) {
    refusal_ = {Kind::kAgain,
                fmt::format("the server sends {} bytes where the hub names {}", *size, *linked)};
  } else {
    part_.restart({url_, *size, validator_of(headers_), linked_sha256()});
  }
}

void Fetch::accept_range() {
  const auto range = parse_content_range(header(headers_, "content-range"));
  const Content& here = part_.content();
  if (asked_from_ == 0 || !range || range->first != asked_from_) {
    refusal_ = {Kind::kAgain, "the server sent another range than it was asked for"};
    return;
  }
  const auto linked = number(linked_size_);
  const std::string validator =
      header(headers_, here.validator.starts_with('"') ? "etag" : "last-modified");
  // A server that ignores If-Range may still show that the file is another one now.
  if (range->size.value_or(here.size) != here.size || linked.value_or(here.size) != here.size ||
      (!validator.empty() && !here.validator.empty() && validator != here.validator) ||
      linked_sha256() != here.sha256) {
    part_.discard();
    refusal_ = {Kind::kAgain, "the file has changed on the server"};
  }
}

// The SHA-256 in X-Linked-Etag; small files have a git hash there, which is shorter.
std::string Fetch::linked_sha256() const {
  std::string digits = lower(linked_etag_);
  std::erase(digits, '"');
  const bool hex = digits.find_first_not_of("0123456789abcdef") == std::string::npos;
  return digits.size() == 64 && hex ? digits : "";
}

Outcome Fetch::outcome(CURLcode code) {
  if (!disk_error_ && code == CURLE_OK && !accepted_) {  // a body of no bytes
    try {
      accept();
    } catch (...) {
      disk_error_ = std::current_exception();
    }
  }
  if (disk_error_) std::rethrow_exception(disk_error_);
  if (request_.status() >= 400) return refused();
  if (refusal_) return *refusal_;
  // The last byte counts, however the connection ended after it.
  if (accepted_ && part_.whole()) return {Kind::kWhole, ""};
  return broken(code);
}

Outcome Fetch::broken(CURLcode code) const {
  if (accepted_) {
    return {Kind::kAgain, fmt::format("the connection ended after {} of {} bytes", part_.size(),
                                      part_.content().size)};
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
            answered + (token_.empty() ? "; set HF_TOKEN to a token that may read the dataset"
                                       : "; check that the token in HF_TOKEN is valid and may "
                                         "read the dataset")};
  }
  if (code == 404 || code == 410)
    return {Kind::kNever, answered + ": not found; check --base-url and HF_ENDPOINT"};
  return {Kind::kNever, answered};
}

}  // namespace autoresearch
