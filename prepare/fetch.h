// One HTTP request for what is missing of a file: the response's body goes to its PartFile, after
// the headers have shown that it belongs there (RFC 9110, sections 13 to 15).
//
// What is here already is asked for no second time. A server that ignores the Range is read from
// the start, and so is one whose file has changed. Redirects are followed; a token goes to the
// first host only.
#pragma once

#include <atomic>
#include <string>

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

// Returns when the request has ended, at the latest after `stall` seconds that bring next to
// nothing, or about a second after `stop` is set. `token` may be empty. Throws what stopped the
// disk.
Outcome fetch(const std::string& url, const std::string& token, long stall, PartFile& part,
              const std::atomic<bool>& stop);

}  // namespace autoresearch
