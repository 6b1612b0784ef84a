// Any bytes, in pieces of any size, through the readers of all four protocols: no crash, no hang,
// no undefined behaviour, and nothing said beyond what an answer can hold.
//
//   cd build/tests/fuzz/stream && ../stream_fuzz -max_total_time=3600 corpus

#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "agent/edit/thoughts.h"
#include "agent/llm/api_error.h"
#include "agent/llm/complaint.h"
#include "agent/llm/wire.h"
#include "common/text.h"

using namespace autoresearch;

namespace {

// Whole in one piece or cut into small ones, a stream means the same.
void read_both_ways(const Wire& wire, bool streamed, std::string_view bytes, size_t piece) {
  AnswerReader at_once(wire, streamed), in_pieces(wire, streamed);
  at_once.feed(bytes);
  for (size_t at = 0; at < bytes.size(); at += piece) {
    if (!in_pieces.feed(bytes.substr(at, piece))) break;
  }
  const Answer a = at_once.finish(), b = in_pieces.finish();
  if (a.text != b.text || a.malformed != b.malformed || a.finished != b.finished) std::abort();
  if (a.text != valid_utf8(a.text) || a.thoughts != valid_utf8(a.thoughts)) std::abort();
  if (a.tokens_in < 0 || a.tokens_out < 0 || a.tokens_cached < 0) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  static const std::vector<std::string> kinds = wire_kinds();
  const auto wire = make_wire(kinds[data[0] % kinds.size()]);
  const size_t piece = 1 + data[1] % 64;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 2, size - 2);
  read_both_ways(*wire, (data[0] & 4) != 0, bytes, piece);
  const ApiError error = read_api_error(100 + 10 * data[1], std::string(bytes));
  remedy_for(error);
  refuses_system_role(error);
  const double wait = seconds_named(error.message, /*now=*/1764374400);
  if (!(wait >= 0 && wait < 1e6)) std::abort();
  complaint_in(error.message, /*now=*/1764374400);
  if (cut_thoughts(std::string(bytes)).answer.size() > bytes.size()) std::abort();
  refused_parameter(error, wire->droppable());
  if (smaller_room(error, 12000) >= 12000) std::abort();
  return 0;
}
