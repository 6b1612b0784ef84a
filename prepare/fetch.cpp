#include "prepare/fetch.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <optional>

#include "common/error.h"
#include "common/http.h"
#include "common/log.h"

namespace autoresearch {
namespace {

using Kind = Outcome::Kind;

constexpr long kConnectSeconds = 15;
constexpr long kMostRedirects = 10;
constexpr long kBuffer = 256 << 10;     // bytes
constexpr double kSettledSeconds = 60;  // a date younger than this may be that of two contents

std::string trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string_view::npos) return "";
  return std::string(text.substr(begin, text.find_last_not_of(" \t\r\n") - begin + 1));
}

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

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
  const auto first = number(trimmed(std::string_view(text).substr(6, dash - 6)));
  const std::string size = text.substr(slash + 1);
  if (!first || (size != "*" && !number(size))) return std::nullopt;
  return ContentRange{*first, number(size)};
}

// The SHA-256 in X-Linked-Etag; small files have a git hash there, which is shorter.
std::string linked_sha256(const Headers& headers) {
  std::string digits = lower(headers.linked_etag);
  std::erase(digits, '"');
  const bool hex = digits.find_first_not_of("0123456789abcdef") == std::string::npos;
  return digits.size() == 64 && hex ? digits : "";
}

// What If-Range may send: a strong ETag, else a date that was past when the response was made.
std::string validator_of(const Headers& headers) {
  const std::string etag = headers.get("etag");
  if (etag.starts_with('"')) return etag;
  const std::string modified = headers.get("last-modified");
  const time_t then = curl_getdate(modified.c_str(), nullptr);
  const time_t now = curl_getdate(headers.get("date").c_str(), nullptr);
  if (then < 0 || now < 0 || std::difftime(now, then) < kSettledSeconds) return "";
  return modified;
}

// "host:port" of a URL, without user, password, path and query, for a line to a user.
std::string host_of(const std::string& url) {
  const size_t scheme = url.find("://");
  const size_t begin = scheme == std::string::npos ? 0 : scheme + 3;
  const std::string host = url.substr(begin, url.find_first_of("/?#", begin) - begin);
  return host.substr(host.rfind('@') + 1);
}

}  // namespace

void Headers::add(std::string_view line) {
  if (line.starts_with("HTTP/")) fields.clear();  // another response begins
  const size_t colon = line.find(':');
  if (colon == std::string_view::npos) return;
  const std::string name = lower(std::string(line.substr(0, colon)));
  const std::string value = trimmed(line.substr(colon + 1));
  if (name == "x-linked-size") linked_size = value;
  if (name == "x-linked-etag") linked_etag = value;
  fields[name] = value;
}

std::string Headers::get(const std::string& name) const {
  const auto field = fields.find(name);
  return field == fields.end() ? "" : field->second;
}

Fetch::Fetch(CURLM* multi, const std::string& url, const std::string& token, PartFile& part)
    : multi_(multi),
      url_(url),
      token_(token),
      part_(part),
      curl_(curl_easy_init()),
      asked_from_(part.size()) {
  check(curl_ != nullptr, "libcurl has no memory for another download");
  set_options();
  curl_multi_add_handle(multi_, curl_);
}

Fetch::~Fetch() {
  curl_multi_remove_handle(multi_, curl_);
  curl_easy_cleanup(curl_);
  curl_slist_free_all(lines_);
}

void Fetch::set_options() {
  if (asked_from_ > 0) {
    const std::string range = "Range: bytes=" + std::to_string(asked_from_) + "-";
    lines_ = curl_slist_append(lines_, range.c_str());
    if (const std::string& validator = part_.content().validator; !validator.empty())
      lines_ = curl_slist_append(lines_, ("If-Range: " + validator).c_str());
  }
  curl_easy_setopt(curl_, CURLOPT_URL, url_.c_str());
  if (is_loopback(url_)) curl_easy_setopt(curl_, CURLOPT_PROXY, "");
  const Authorities trusted = authorities();
  if (!trusted.file.empty()) curl_easy_setopt(curl_, CURLOPT_CAINFO, trusted.file.c_str());
  if (!trusted.folder.empty()) curl_easy_setopt(curl_, CURLOPT_CAPATH, trusted.folder.c_str());
  curl_easy_setopt(curl_, CURLOPT_HTTPHEADER, lines_);
  curl_easy_setopt(curl_, CURLOPT_PROTOCOLS_STR, "http,https");
  // Whoever asked for TLS gets it to the end.
  const bool tls = lower(url_).starts_with("https:");
  curl_easy_setopt(curl_, CURLOPT_REDIR_PROTOCOLS_STR, tls ? "https" : "http,https");
  curl_easy_setopt(curl_, CURLOPT_FOLLOWLOCATION, 1L);
  curl_easy_setopt(curl_, CURLOPT_MAXREDIRS, kMostRedirects);
  // Over HTTP/2 all files would share one connection, and with it the speed of one.
  curl_easy_setopt(curl_, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1);
  // libcurl itself keeps the token from other hosts, ports and schemes after a redirect.
  if (!token_.empty()) {
    curl_easy_setopt(curl_, CURLOPT_HTTPAUTH, CURLAUTH_BEARER);
    curl_easy_setopt(curl_, CURLOPT_XOAUTH2_BEARER, token_.c_str());
  }
  curl_easy_setopt(curl_, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl_, CURLOPT_USERAGENT, "autoresearch");
  curl_easy_setopt(curl_, CURLOPT_CONNECTTIMEOUT, kConnectSeconds);
  curl_easy_setopt(curl_, CURLOPT_TCP_KEEPALIVE, 1L);
  curl_easy_setopt(curl_, CURLOPT_BUFFERSIZE, kBuffer);
  curl_easy_setopt(curl_, CURLOPT_ERRORBUFFER, message_);
  curl_easy_setopt(curl_, CURLOPT_HEADERFUNCTION, on_header);
  curl_easy_setopt(curl_, CURLOPT_HEADERDATA, this);
  curl_easy_setopt(curl_, CURLOPT_WRITEFUNCTION, on_body);
  curl_easy_setopt(curl_, CURLOPT_WRITEDATA, this);
  curl_easy_setopt(curl_, CURLOPT_PRIVATE, this);
}

size_t Fetch::on_header(char* data, size_t size, size_t count, void* fetch) {
  static_cast<Fetch*>(fetch)->headers_.add({data, size * count});
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
  if (status() == 200) {
    accept_whole();
  } else if (status() == 206) {
    accept_range();
  } else {
    const Kind kind = status() < 300 ? Kind::kAgain : Kind::kNever;
    refusal_ = {kind, host_of(url_) + " answered " + std::to_string(status())};
  }
}

void Fetch::accept_whole() {
  const auto length = number(headers_.get("content-length")), linked = number(headers_.linked_size);
  const std::optional<int64_t> size = length ? length : linked;
  if (!size) {
    refusal_ = {Kind::kNever, host_of(url_) + " does not say how long the file is"};
  } else if (linked && *linked != *size) {
    refusal_ = {Kind::kAgain,
                format("the server sends %lld bytes where the hub names %lld",
                       static_cast<long long>(*size), static_cast<long long>(*linked))};
  } else {
    part_.restart({url_, *size, validator_of(headers_), linked_sha256(headers_)});
  }
}

void Fetch::accept_range() {
  const auto range = parse_content_range(headers_.get("content-range"));
  const Content& here = part_.content();
  if (asked_from_ == 0 || !range || range->first != asked_from_) {
    refusal_ = {Kind::kAgain, "the server sent another range than it was asked for"};
    return;
  }
  const auto linked = number(headers_.linked_size);
  const std::string validator =
      headers_.get(here.validator.starts_with('"') ? "etag" : "last-modified");
  // A server that ignores If-Range may still show that the file is another one now.
  if (range->size.value_or(here.size) != here.size || linked.value_or(here.size) != here.size ||
      (!validator.empty() && !here.validator.empty() && validator != here.validator) ||
      linked_sha256(headers_) != here.sha256) {
    part_.discard();
    refusal_ = {Kind::kAgain, "the file has changed on the server"};
  }
}

long Fetch::status() const {
  long status = 0;
  curl_easy_getinfo(curl_, CURLINFO_RESPONSE_CODE, &status);
  return status;
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
  if (status() >= 400) return refused();
  if (refusal_) return *refusal_;
  // The last byte counts, however the connection ended after it.
  if (accepted_ && part_.whole()) return {Kind::kWhole, ""};
  return broken(code);
}

Outcome Fetch::broken(CURLcode code) const {
  if (accepted_) {
    return {Kind::kAgain, format("the connection ended after %lld of %lld bytes",
                                 static_cast<long long>(part_.size()),
                                 static_cast<long long>(part_.content().size))};
  }
  const char* effective = nullptr;
  curl_easy_getinfo(curl_, CURLINFO_EFFECTIVE_URL, &effective);
  const std::string problem = *message_ ? message_ : curl_easy_strerror(code);
  const auto proxy = proxy_for(effective ? effective : url_);
  const std::string way = proxy ? " through " + proxy->address + " of $" + proxy->variable : "";
  const std::string reason =
      "can't reach " + host_of(effective ? effective : url_) + way + ": " + problem;
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
  const long code = status();
  const std::string answered = host_of(url_) + " answered " + std::to_string(code);
  long redirects = 0;
  curl_easy_getinfo(curl_, CURLINFO_REDIRECT_COUNT, &redirects);
  if (code == 416 && asked_from_ > 0) {
    part_.discard();
    return {Kind::kAgain, "the file has become shorter on the server"};
  }
  if (code == 408 || code == 425 || code == 429 || code >= 500)
    return {Kind::kAgain, answered, retry_after()};
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

// Retry-After in either form, else what Hugging Face sends with its 429: RateLimit: ...;t=SECONDS.
double Fetch::retry_after() const {
  curl_off_t seconds = 0;
  curl_easy_getinfo(curl_, CURLINFO_RETRY_AFTER, &seconds);
  if (!headers_.get("retry-after").empty())
    return static_cast<double>(std::max<curl_off_t>(0, seconds));
  const std::string limit = headers_.get("ratelimit");
  const size_t reset = limit.find(";t=");
  if (reset == std::string::npos) return 0;
  const size_t digits = reset + 3;
  return static_cast<double>(
      number(limit.substr(digits, limit.find_first_not_of("0123456789", digits) - digits))
          .value_or(0));
}

}  // namespace autoresearch
