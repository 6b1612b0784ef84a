// Memory for tensors in which every step outside of a block shows: it ends at a page that can't be
// touched, or begins behind one, is filled with a pattern, and is gone as soon as it is freed.
#pragma once

#include <c10/core/Allocator.h>
#include <c10/util/Exception.h>
#include <sys/mman.h>

#include <cstdlib>
#include <cstring>

namespace autoresearch {

class GuardedMemory : public c10::Allocator {
 public:
  enum Side { kBegins, kEnds };  // where the block touches a guard page

  GuardedMemory(Side side, uint8_t poison, size_t largest)
      : side_(side), poison_(poison), largest_(largest) {}

  c10::DataPtr allocate(size_t size) override {
    TORCH_CHECK_WITH(OutOfMemoryError, size <= largest_, "more memory than a test may take");
    const size_t taken = (size + kAlign - 1) / kAlign * kAlign, pages = (taken + kPage - 1) / kPage;
    const size_t whole = (pages + 2) * kPage;
    void* map = mmap(nullptr, whole, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    TORCH_CHECK_WITH(OutOfMemoryError, map != MAP_FAILED, "no memory");
    auto* const inside = static_cast<char*>(map) + kPage;
    if (pages) TORCH_CHECK(mprotect(inside, pages * kPage, PROT_READ | PROT_WRITE) == 0);
    std::memset(inside, poison_, pages * kPage);
    char* const data = side_ == kBegins ? inside : inside + pages * kPage - taken;
    return {data, new Block{map, whole, data + size, inside + pages * kPage, poison_}, &release,
            c10::Device(c10::kCPU)};
  }
  void fill_with(uint8_t poison) { poison_ = poison; }  // blocks from now on
  void copy_data(void* to, const void* from, size_t size) const override {
    default_copy_data(to, from, size);
  }

 private:
  static constexpr size_t kPage = 4096, kAlign = 64;

  struct Block {
    void* map;
    size_t whole;
    const char *end, *pages_end;  // what lies between must stay as it is
    uint8_t poison;
  };

  static void release(void* context) {
    const auto* block = static_cast<Block*>(context);
    for (const char* at = block->end; at < block->pages_end; at++)
      if (static_cast<uint8_t>(*at) != block->poison) std::abort();
    munmap(block->map, block->whole);
    delete block;
  }

  Side side_;
  uint8_t poison_;
  size_t largest_;
};

}  // namespace autoresearch
