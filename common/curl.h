// What every HTTP request of this project has in common, on libcurl. A target of its own (`web`),
// so that a program that opens no connection links no libcurl.
#pragma once

#include <curl/curl.h>

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace autoresearch {

// Of a response: names in lower case, values trimmed.
using HttpHeaders = std::map<std::string, std::string>;

// Takes in a line as libcurl hands it on; one that begins with "HTTP/" begins another response.
// Of a response that has hundreds, what comes after 200 is passed over.
void add_header(HttpHeaders& headers, std::string_view line);
// Empty if there is none.
std::string header(const HttpHeaders& headers, const std::string& name);

// One request, until it is performed by its owner. HTTP alone, through the machine's proxy (what is
// on this machine goes without one), with the machine's certificates; it can't hang while it
// connects. Throws Error if libcurl can't work.
class CurlRequest {
 public:
  // `lines` are headers to send, "Name: value".
  CurlRequest(const std::string& url, const std::vector<std::string>& lines);
  ~CurlRequest();
  CurlRequest(const CurlRequest&) = delete;
  CurlRequest& operator=(const CurlRequest&) = delete;

  CURL* handle() const { return curl_; }
  template <typename Value>
  void set(CURLoption option, Value value) {
    curl_easy_setopt(curl_, option, value);
  }
  template <typename Value>
  Value get(CURLINFO info) const {
    Value value{};
    curl_easy_getinfo(curl_, info, &value);
    return value;
  }

  long status() const { return get<long>(CURLINFO_RESPONSE_CODE); }
  // libcurl's words for how it ended.
  std::string problem(CURLcode code) const;
  // "HOST:PORT of $https_proxy", if a request to `url` goes through one; else empty.
  static std::string proxy(const std::string& url);
  // Seconds that the server asks to wait, at most a week; 0 if it names none.
  double retry_after(const HttpHeaders& headers) const;

 private:
  CURL* curl_;
  curl_slist* lines_ = nullptr;
  char problem_[CURL_ERROR_SIZE] = "";
};

// For curl_global_init, which must not run twice at a time: before the first use of libcurl that is
// no CurlRequest. May be called again.
void start_curl();

}  // namespace autoresearch
