// What a reply comes in as a whole, taken off before it is read. Pure, and linear in its length.
#pragma once

#include <string>

namespace autoresearch {

// The text without escape sequences of terminals and carriage returns; out of JSON if that holds
// the only edit, as some assistants print theirs, its blocks as replies or as pairs of texts; with
// < and > if all of them came as HTML's entities.
std::string undressed(const std::string& reply);

}  // namespace autoresearch
