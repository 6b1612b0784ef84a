// Byte-level BPE with upstream's split pattern; the file format is tiktoken's.
//
// Text is split into pieces by the pattern (GPT-4's with \p{N}{1,2}); within a piece the pair of
// adjacent tokens with the lowest rank is merged until none is left (Sennrich et al., arXiv
// 1508.07909). Ids are ranks: 0..255 are the single bytes in rustbpe's order (byte value), then the
// merges in order of training, then the special tokens. Bytes that are not UTF-8 pass through.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/files.h"

namespace autoresearch {

class Tokenizer {
 public:
  static constexpr int64_t kSpecialTokens = 4;  // <|reserved_0|> ... <|reserved_3|>
  static constexpr int64_t kMinVocab = 256 + kSpecialTokens, kMaxVocab = 65535;
  static constexpr int64_t kDocumentCharacters = 10'000, kTrainingCharacters = 1'000'000'000;

  // Learns `vocab_size` - kSpecialTokens tokens from documents; fewer, where the text has no pair
  // left to merge. Deterministic: highest count first, ties to the smaller pair. As in
  // upstream, at most 10,000 characters of a document are used, and no more documents once these
  // are 10^9. Unlike there, none either once their distinct pieces take 256 MB, or text without
  // repetition (random letters, base64) would take any amount.
  //
  // `next` fills in a document and returns false at the end. The documents' pieces are counted by
  // `workers` threads meanwhile; the result does not depend on how many. `merged`, if given, hears
  // how many merges are done. Both are called by this thread, and what they throw ends the
  // training.
  static Tokenizer train(const std::function<bool(std::string& document)>& next, int64_t vocab_size,
                         int64_t workers = 1,
                         const std::function<void(int64_t merges)>& merged = {});

  // Throws Error when the file is missing or damaged.
  static Tokenizer load(const fs::path& tiktoken_file);
  void save(const fs::path& tiktoken_file) const;

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  int64_t vocab_size() const;  // special tokens included
  int64_t bos() const;         // first special token, <|reserved_0|> as upstream has it

  // Appends the ids of `text` to `ids`; special tokens in the text are ordinary text. Thread-safe.
  void encode(std::string_view text, std::vector<uint16_t>& ids) const;
  // The bytes of ids; special tokens decode to nothing. Throws Error on an id out of range.
  std::string decode(const std::vector<uint16_t>& ids) const;

  // Raw bytes of one token, as text and their count; none for special tokens.
  std::string_view token(int64_t id) const;
  int64_t token_bytes(int64_t id) const;
  // Upstream's count: bytes of the token decoded with replacement characters, then re-encoded.
  int64_t token_bytes_upstream(int64_t id) const;

 private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl>);
  std::unique_ptr<Impl> impl_;
};

}  // namespace autoresearch
