// What a reply comes in as a whole, taken off before it is read. Pure, and linear in its length.
#pragma once

#include <string>

namespace autoresearch {

// The text without escape sequences of terminals, carriage returns and thoughts in <think>; out of
// JSON if that is all there is and holds one edit, as some assistants print theirs; with < and >
// if all of them came as HTML's entities.
std::string undressed(const std::string& reply);

}  // namespace autoresearch
