/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* C++: iostreams, containers, an exception that crosses threads.
 *
 * libstdc++ and libgcc_s are not among glibc's packages, so they are linked statically: the release's root has
 * glibc and nothing else. libstdc++.a is compiled against the image's glibc; what of it would need a newer one
 * (random devices: arc4random, GLIBC_2.36) is not used, and --gc-sections drops it.
 */
#include <exception>
#include <iostream>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>

#include "find_object.h"

int main()
{
    std::exception_ptr caught;
    std::map<std::string, int> words;
    std::thread thread([&] {
        try {
            std::istringstream text("one two three two three three");
            for (std::string word; text >> word;)
                words[word]++;
            throw std::runtime_error("thrown in a thread");
        } catch (...) {
            caught = std::current_exception();
        }
    });
    thread.join();
    std::string message = "nothing";
    try {
        if (caught)
            std::rethrow_exception(caught);
    } catch (const std::runtime_error &error) {
        message = error.what();
    }
    std::cout << "{\"name\": \"launch-cxx\", \"caught\": \"" << message << "\", \"words\": {";
    const char *comma = "";
    for (const auto &[word, count] : words) {
        std::cout << comma << '"' << word << "\": " << count;
        comma = ", ";
    }
    std::cout << "}}" << std::endl;
    return std::cout ? 0 : 2;
}
