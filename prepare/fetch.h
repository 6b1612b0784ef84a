// One HTTP request for what is missing of a file: the response's body goes to its PartFile, after
// the headers have shown that it belongs there (RFC 9110, sections 13 to 15).
//
// What is here already is asked for no second time: a Range, with If-Range, so that a server whose
// file has changed sends the new one from the start. A server that ignores Range answers 200 and is
// read from the start too. Redirects are followed; a token goes to the first host only.
#pragma once

#include <cstdint>
#include <exception>
#include <optional>
#include <string>
#include <string_view>

#include "common/curl.h"
#include "prepare/part_file.h"

namespace autoresearch {

// How a request ended.
struct Outcome {
  enum class Kind {
    kWhole,  // every byte is in the PartFile, and none is checked yet
    kAgain,  // a later request may do better
    kNever,  // no request will, until a user does something
  } kind;
  std::string reason;      // without the file's name: "the server answered 503"
  double retry_after = 0;  // seconds that the server asks to wait; 0 where it names none
};

class Fetch {
 public:
  // Begins at once, driven by `multi`, which must outlive it, as must `part`, opened for `url`.
  // `token` may be empty.
  Fetch(CURLM* multi, const std::string& url, const std::string& token, PartFile& part);
  ~Fetch();
  Fetch(const Fetch&) = delete;
  Fetch& operator=(const Fetch&) = delete;

  CURL* handle() const { return request_.handle(); }
  int64_t received() const { return received_; }  // bytes of body so far

  // What came of it, once curl says that it has ended. Throws what stopped the disk.
  Outcome outcome(CURLcode code);

 private:
  static size_t on_header(char* data, size_t size, size_t count, void* fetch);
  static size_t on_body(char* data, size_t size, size_t count, void* fetch);
  void set_options();
  void accept();
  void accept_whole();
  void accept_range();
  void write(std::string_view bytes);
  Outcome broken(CURLcode code) const;
  Outcome refused();
  std::string linked_sha256() const;

  CURLM* const multi_;
  const std::string url_, token_;
  PartFile& part_;
  const int64_t asked_from_;
  CurlRequest request_;
  HttpHeaders headers_;  // of the last response
  // Of any response on the way: a hub that redirects tells here what the file behind is. Hugging
  // Face: X-Linked-Size, and X-Linked-Etag, the SHA-256 of what is stored by content. The last
  // host's ETag may have 64 digits as well, but then it is another hash.
  std::string linked_size_, linked_etag_;
  int64_t received_ = 0;
  bool accepted_ = false;
  std::optional<Outcome> refusal_;  // why the body isn't taken
  std::exception_ptr disk_error_;   // carried past libcurl, which knows no exceptions
};

}  // namespace autoresearch
