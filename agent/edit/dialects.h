// How the lines of one block may be meant, where they are not in the file as they stand.
#pragma once

#include <vector>

#include "agent/edit/reply.h"

namespace autoresearch {

// The block as it is written, then its other readings: without the line numbers that it was shown
// with, without the signs of a diff, with HTML's entities or a word processor's characters as code.
// Each is there only if the block is written in that way from beginning to end. The first whose
// SEARCH is in the file is the one that is meant.
std::vector<Block> readings(const Block& block);

}  // namespace autoresearch
