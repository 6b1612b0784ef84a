#include "agent/edit/doubts.h"

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <set>
#include <string_view>

#include "common/text.h"

namespace autoresearch {
namespace {

// A line's words in small letters, a blank around each; an apostrophe joins: "don't" is " dont ".
std::string words_of(const std::string& line) {
  std::string words = " ";
  for (const char c : lower(line)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x80 || std::isalnum(byte) != 0)
      words += c;
    else if (c != '\'' && words.back() != ' ')
      words += ' ';
  }
  return words.back() == ' ' ? words : words + " ";
}

// Where one of the phrases, which '|' separates, stands in `words`; npos: nowhere. Blanks are part
// of a phrase: " no " is a word, "korrig" the beginning or the middle of one.
size_t find_phrase(const std::string& words, std::string_view phrases) {
  size_t first = std::string::npos;
  while (!phrases.empty()) {
    const size_t end = std::min(phrases.find('|'), phrases.size());
    first = std::min(first, words.find(phrases.substr(0, end)));
    phrases.remove_prefix(std::min(end + 1, phrases.size()));
  }
  return first;
}

bool has_phrase(const std::string& words, std::string_view phrases) {
  return find_phrase(words, phrases) != std::string::npos;
}

bool begins_with_phrase(const std::string& words, std::string_view phrases) {
  return find_phrase(words, phrases) == 0;
}

// At a line's begin.
constexpr std::string_view kOutcries =
    " hmm| oops | scrap | scratch | forget | strike | hold on | cancel | correction | my mistake "
    "| not this | rejected | void | verworfen | actually no| actually this is | actually this was "
    "| actually this wo| actually this does| actually that | actually do not | wait no | wait that "
    "| wait this | never mind | nevermind | nope "
    "| on reflection | on second thought| nein | halt | espera | нет | Нет | стоп | Стоп | いや"
    "| 아니";
constexpr std::string_view kDenials =
    "no,|no.|no!|no:|no -|~~|non,|não,|wait,|wait.|wait!|wait:|wait -|wait—|wait —|wait…|sorry,"
    "|sorry:|actually, no|actually, that";

constexpr std::string_view kWithdrawals =
    " do not run | dont run | not be run | not apply th| not apply it | not apply any | not apply "
    "yet "
    "| dont apply th| dont apply it | this should not be applied | it should not be applied "
    "| edit should not be applied | must not be applied | not to be applied | do not use this | "
    "dont use | disregard | discard th"
    "| take it back | take that back | changed my mind | withdraw| retract | that was wrong "
    "| that is wrong | this is wrong | does not compile | doesnt compile | would not compile "
    "| will not compile | wont compile | would break | wont build | not build | just an example "
    "| only an example | an illustration | just a draft | only a draft | was a mistake "
    "| is a mistake | made a mistake | by mistake | my mistake | was tried already | already tried "
    "| superseded | obsolete | drop it | fail to compile "
    "| above is wrong | bad idea | reconsider | think again | should not have proposed "
    "| not a valid | broken |nicht ausf|nicht verwend|忽略|無視|гнорир|nicht anwend|pas exécuter"
    "|pas appliquer|no ejecut|no aplic|no lo apliq|não apli|е запуска|е применя|等等|不要运行"
    "|不要应用|不要使用|作废|撤回|放弃|取消|実行しない|適用しない|使わない";

// These need their object behind them, or none: "ignore this", "please ignore". With a condition
// they are advice.
constexpr std::string_view kOrders = " ignore | revert | skip | undo ";
constexpr std::string_view kObjects =
    " this | that | it | all | everything | the above | the edit | the block";

// Between blocks, at a line's begin.
constexpr std::string_view kOthers = " or | else | try | no | oder | ou | o | или ";

constexpr std::string_view kReplacements =
    " wait | hmm | oops |second thought| scrap | scratch | corrected | correction | revis"
    "| mistake| rejected | wont work | draft| redo | try again | tried | alternative"
    "| option | variant| attempt | plan b | fallback | otherwise | if that | fails "
    "| safer | prefer| different "
    "| above by | above would | above with | instead of the above | wrong | nein "
    "| moment | besser |stattdessen|verworfen| falsch| versuch|korrigi| non |plutôt| attend"
    "|erreur| mieux |corrig| mejor |espera|en lugar| não | melhor | aspett| meglio | anzi |нет"
    "|Нет|топ|лучше|Лучше|ошиб|место|ариант|льтернатив|不对|不行|错|改为|改成|重新|更好|或|方案"
    "|放弃|太|另一|换|替代|版本|最终|いや|違|待っ|やり直|または|代わり|別案|訂正|아니|다시|대신"
    "|잠깐|또는|대안";

// The same, but not in a line that goes on with the edit: "and then the final head".
constexpr std::string_view kWeakly =
    " one | ones | final | real | actual | simpl| better | best | only | or | rather | version ";

// What goes on with an edit, at a line's begin or anywhere.
constexpr std::string_view kBeginnings = " to | for | in | at | since | because | with | where ";
constexpr std::string_view kContinuations =
    " and | also | then | next | now | plus | further| additional| accordingly | likewise | same "
    "| both | belong| rest | as well | together | too | follow| second | third | last | call "
    "| und | auch | außerdem | dann | nun | zudem | dazu | et | aussi | puis | ensuite | y "
    "| también | luego | además | e | também | anche | poi | и | И |также|затем|然后|并|同时|第二"
    "|再|也|另外|接着|其次|此外|そして|また|次|さらに|も|그리고|또한|다음";

// The words of five letters and more in a text, those that make a name as well: "kEmbeddingLr" has
// "embedding".
std::set<std::string> long_words(const std::string& text) {
  constexpr size_t kLeast = 5;
  std::set<std::string> words;
  std::string word;
  const auto end_word = [&] {
    if (word.size() >= kLeast) words.insert(lower(word.substr(0, word.find_last_not_of('s') + 1)));
    word.clear();
  };
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isupper(byte) != 0 && !word.empty() &&
        std::islower(static_cast<unsigned char>(word.back())) != 0)
      end_word();
    if (std::isalpha(byte) != 0)
      word += c;
    else
      end_word();
  }
  end_word();
  return words;
}

}  // namespace

bool withdraws(const std::string& line) {
  const std::string words = words_of(line);
  const size_t order = find_phrase(words, kOrders);
  const bool orders = order != std::string::npos && !has_phrase(words, " if | unless ") &&
                      (begins_with_phrase(words.substr(words.find(' ', order + 1)), kObjects) ||
                       words.find(' ', order + 1) == words.size() - 1);
  // "Bitte ignorieren", "Ignora esto"
  constexpr int64_t kFew = 4;  // words
  const bool ignored = has_phrase(words, " ignor") && !has_phrase(words, " the ") &&
                       std::count(words.begin(), words.end(), ' ') <= kFew + 1;
  return orders || ignored || words == " wait " || words == " no " ||
         begins_with_phrase(words, kOutcries) || begins_with_phrase(lower(line), kDenials) ||
         has_phrase(words, kWithdrawals) || words.ends_with(" not apply ") ||
         words.ends_with(" dont apply ");
}

bool replaces(const std::string& line) {
  constexpr std::string_view kToo = " too ";  // " too much ", but not " the head too "
  const std::string words = words_of(line);
  const size_t too = words.find(kToo);
  const bool judges = too != std::string::npos && too + kToo.size() < words.size();
  return judges || withdraws(line) || begins_with_phrase(words, kOthers) || words == " edit " ||
         words == " update " || words.ends_with(" instead ") || has_phrase(words, kReplacements) ||
         (has_phrase(words, kWeakly) && !has_phrase(words, " and | then | also | as well "));
}

bool introduces(const std::string& line, const std::string& block) {
  const std::string words = words_of(line);
  const bool counts = words.find_first_not_of(" 0123456789") == std::string::npos;
  constexpr std::string_view kParts = " block | edit | change | part | step | place | hunk ";
  const bool part =
      has_phrase(words, kParts) && words.find_first_of("0123456789") != std::string::npos;
  if (counts || part || line.find('`') != std::string::npos ||
      begins_with_phrase(words, kBeginnings) || has_phrase(words, kContinuations))
    return true;
  const std::set<std::string> own = long_words(block), said = long_words(line);
  return std::any_of(said.begin(), said.end(),
                     [&](const std::string& word) { return own.contains(word); });
}

}  // namespace autoresearch
