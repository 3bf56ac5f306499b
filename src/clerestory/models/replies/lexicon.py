"""Words of several languages that give a sentence its polarity, as patterns for lower-case text.

A word list is a string of expressions separated by commas. Scripts that write without spaces are matched anywhere.
"""

from __future__ import annotations

import re

# Chinese, Japanese and Thai have no spaces between words; Korean words carry suffixes.
UNSPACED = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_UNSPACED_WORD = re.compile(f"[{UNSPACED}]")


def words(*lists: str) -> str:
    """An alternation that matches any expression of some lists as whole words, the longest first."""
    every = sorted({word.strip() for some in lists for word in some.split(",") if word.strip()}, key=len, reverse=True)
    spaced = [word for word in every if not _UNSPACED_WORD.search(word)]
    unspaced = [word for word in every if _UNSPACED_WORD.search(word)]
    # A symbol such as ✗ is not a word; \b would never match beside it.
    parts = [rf"(?<!\w)(?:{'|'.join(spaced)})(?!\w)"] if spaced else []
    return "(?:" + "|".join([*unspaced, *parts]) + ")"


# Negation that precedes what it negates.
NEGATION = words(
    r"not,never,nothing,neither,nor,none,without,cannot,cant,dont,doesnt,didnt,isnt,arent,wasnt,no,\w+n't",
    r"rul(?:e|es|ed|ing) out,eliminat(?:e|es|ed|ing),exclud(?:e|es|ed|ing),rather than,instead of,unlike",
    r"as opposed to",
    r"anything but,far from,opposed to,unable to,impossible to,unsure,compared (?:to|with),whether",
    r"if (?:it|this|that)(?:'s| is)",
    r"ob,si es,si c'est,se é,om det",
    r"nicht,kein,keine,keinen,keinem,keiner,keines,weder,niemals,statt,anstatt,anstelle,ohne,nix,nö",
    r"pas,ni,aucun,aucune,jamais,plutôt que,au lieu d(?:e|u|es),sans",
    r"no,ni,tampoco,nunca,ningún,ninguno,ninguna,en lugar de,en vez de,sin",
    r"não,nao,nem,nunca,nenhum,nenhuma,em vez de,ao invés de,sem",
    r"non,né,neppure,nessun,nessuno,nessuna,mai,invece di,anziché,senza",
    r"niet,geen,nooit,noch,zonder,inte,icke,ej,ingen,inget,aldrig,ikke,ikkje,aldri,intet,utan att,uden",
    r"nie,ani,żaden,żadna,żadne,bez,není,nejsou,nevidím,nikoli,nikoliv,ne,žádný,žádná,žádné,nije,nisu",
    r"nu,nici,niciun,nicio,nem,nincs,sem,soha,ei,eivät,en ole",
    r"не,нет,нету,ни,нельзя,без,ані,немає,няма,нито",
    r"δεν,μη,μην,όχι,ούτε,χωρίς",
    r"ليس,وليس,ولا,ليست,ليسوا,لا,لم,لن,غير,بدلا من,بدون,لیست",
    r"לא,אינו,אינה,אין,אינם,בלי",
    r"नही,मत,نه,ندارد,হয়নি",
    r"không phải,không,chẳng,chứ không,bukan,tidak,bukanlah,hapana",
    "不是,并非,並非,不,没有,沒有,没,沒,而不是,而非,非,排除,別,无,無,ไม่ใช่,ไม่,มิใช่,是否",
)
# Negation that follows what it negates.
NEGATION_AFTER = words(
    r"değil,değildir,değiller,yok,yoktur,नहीं,नही,नय,নয়,নেই,না,نیست,نیستند,இல்லை,కాదు",
    "ではなく,ではありません,ではない,じゃない,じゃなく,でなく,でない,ありません,ません,いない,ない,なく",
    "아니라,아니고,아닙니다,아니에요,아니예요,아니다,아닌,않,없습니다,없어요,없다,없",
)
WRONG = words(
    r"wrong,incorrect,incorrectly,false,falsely,untrue,mistaken,inaccurate,invalid,ruled out,eliminated",
    r"excluded,impossible",
    r"falsch,falsche,falscher,falschen,unrichtig,unwahr,inkorrekt,unzutreffend,ausgeschlossen",
    r"faux,fausse,incorrecte?s?,inexacte?,erronée?,exclue?",
    r"incorrect[oa]s?,fals[oa]s?,equivocad[oa]s?,errad[oa]s?,erróne[oa],descartad[oa]s?",
    r"sbagliat[oaie],errat[oaie],scorrett[oaie],esclus[oaie]",
    r"incorret[oa]s?,descartad[oa]",
    r"fout,foute,onjuist,onjuiste,onwaar,verkeerd,fel,felaktig,osant,forkert,falsk,usand,feil,gal,galt",
    r"błędn\w+,fałsz\w*,nieprawd\w*,niepoprawn\w+,nieprawidłow\w+,špatn\w+,nesprávn\w+,nepravd\w*,chybn\w+,netočn\w+",
    r"greșit\w*,gresit\w*,fals[ăa]?,incorect\w*,hibás,helytelen,hamis,téves,vääri\w*,väärä\w*,virheelli\w*",
    r"неверн\w+,неправильн\w+,неправд\w*,ошибочн\w+,ложь,ложно,ложн\w+,невірн\w+,хибн\w+,грешн\w+",
    r"λάθος,λανθασμέν\w+,ψευδ\w+,خطأ,خاطئ\w*,غلط,نادرست,שגוי\w*,गलत,ग़लत,झूठ,ভুল,தவறு,yanlış,yanlıştır,hatalı",
    r"sai,salah,keliru",
    "不对,不對,错误,錯誤,错,錯,假的,不正确,不正確,間違い,間違って,間違っ,誤り,不正解,違います,違う,틀렸,틀린,틀립,오답,거짓,ผิด,เท็จ",
    r"✗,✘,❌,❎,🚫,✖",
)
RIGHT = words(
    r"correct,right,true,accurate,the case,valid,der fall,le cas,el caso,il caso,o caso,het geval",
    r"richtig,richtige,richtigen,korrekt,korrekte,wahr,stimmt,zutreffend,trifft zu,tatsache",
    r"vraie?,correcte?s?,exacte?,correct[oa]s?,verdad,verdader[oa]s?,ciert[oa]s?,verdade,verdadeir[oa]",
    r"corret[oa]s?,cert[oa]",
    r"corrett[oaie],giust[oaie],ver[oa],esatt[oaie],juist,juiste,waar,klopt,correct,rätt,sant,korrekt,stämmer",
    r"rigtigt?,rigtige,sandt?,riktig,riktige",
    r"poprawn\w+,prawidłow\w+,prawd\w*,właściw\w+,správn\w+,pravd\w*,točn\w+,corect\w*,adevărat\w*,helyes\w*",
    r"igaz,oikea\w*,oikein,totta",
    r"верн\w+,правильн\w+,правд\w*,вірн\w+,правда,вярно,σωστ\w+,αληθ\w+,αλήθεια,صحيح\w*,صحیح,درست,נכון,נכונה",
    r"सही,सच,সঠিক,சரி,doğru,doğrudur",
    r"đúng,benar,betul,kweli,tama,totoo,✓,✔,✅,☑",
    "正确,正確,对的,對的,真的,属实,屬實,正しい,正しく,正解,맞습니다,맞아요,맞다,맞는,옳,사실,참,ถูก,จริง",
)
# A clause with one of these states the answer.
CUE = words(
    r"answer,answers,answered,solution,final,probably,likely,presumably,wahrscheinlich,probablement",
    r"probablemente,lean,leaning,inclined,prefer,conclude,conclusion,choose,chose",
    r"choosing,select,selected,selecting,pick,picked,go with",
    r"opt for,therefore,thus,hence,correct,correctly,right (?:answer|option|choice|one),is right",
    r"best (?:option|choice|match|answer|fit)",
    r"so(?=\W+(?:it|the|this|that|i|my|answer|[a-z])\b),my guess,i(?:'d| would) (?:say|guess),fits best,matches best",
    r"antwort,antworte,lösung,wähle,entscheide,daher,folglich,richtig,richtige,richtigen,korrekt,korrekte",
    r"réponse,réponds,donc,choisis,solution,correcte?,bonne réponse,respuesta,elijo,escojo,solución",
    r"por lo tanto,por tanto,correct[oa]",
    r"risposta,quindi,scelgo,soluzione,corrett[oa],giusta,resposta,portanto,escolho,corret[oa],antwoord,kies",
    r"juiste,dus",
    r"svar,svaret,väljer,vælger,velger,alltså,derfor,rätt,rigtige?,riktige?,odpowied\w+,wybieram,zatem",
    r"poprawn\w+,prawidłow\w+,odpověď,správn\w+,odgovor",
    r"răspuns\w*,corect\w*,válasz\w*,helyes,vastaus,oikea,ответ\w*,выбираю,следовательно,поэтому,итак,верн\w+",
    r"правильн\w+,відповідь,правильна",
    r"отговор\w*,απάντηση,σωστή,الإجابة,الاجابة,الجواب,إجابة,جواب,أختار,اختار,الصحيح\w*,پاسخ,תשובה,התשובה",
    r"הנכונה,נכונה,उत्तर,जवाब,इसलिए,सही,উত্তর",
    r"cevap\w*,yanıt\w*,seçiyorum,doğru,đáp án,câu trả lời,trả lời,đúng,jawaban\w*,jawabannya,benar,jibu,sagot",
    "答案,回答,答え,答,正解,正确,正確,选择,選擇,应选,應選,应该选,选,選,所以,因此,정답,답,따라서,그러므로,正しい,คำตอบ,ตอบ",
    r"✓,✔,✅,☑,👉,→,⇒,➡,=>",
)
BECAUSE = words(
    r"because,since,due to,as(?=\s+(?:it|the|this|there|we|i|they|you|he|she|shown|seen)\b),given that,weil",
    r"denn,porque,ya que,pois,já que,parce qu\w*,parce,puisqu\w*,perché,poiché",
    r"omdat,eftersom,fordi,ponieważ,gdyż,protože,jer,deoarece,pentru că,mert,koska,потому,поскольку,так как",
    r"тому що,защото,επειδή,διότι,γιατί",
    r"لأن,لأنها,لأنه,زیرا,כי,מכיוון,क्योंकि,কারণ,çünkü,bởi vì,vì",
    r"karena,kwa sababu,dahil,因为,因為,由于,由於,なぜなら,왜냐,เพราะ",
)
CONTRAST = words(
    r"but,however,rather(?!\s+than),instead(?!\s+of),yet,sondern,aber,jedoch",
    r"mais,sino,pero",
    r"mas,ma,bensì,però,maar,men,utan,lecz,ale,tylko,nýbrž,nego,već,но,а,зато,αλλά,ama",
    r"fakat,aksine",
    r"بل,لكن,ولكن,بلکه,אלא,אבל,बल्कि,लेकिन,বরং,mà là,nhưng,melainkan,tetapi,tapi,bali,kundi,vaan,mutta,hanem",
    r"dar,însă",
    r"而是,但是,但,却,แต่,むしろ,오히려",
)
# A concession, whose options are not the answer.
CONCESSION = words(
    r"although,though,even though,even if,while,whereas,despite,obwohl,während,bien que,quoique,tandis que",
    r"aunque,si bien,mientras",
    r"sebbene,anche se,mentre,embora,enquanto,ainda que,hoewel,även om,chociaż,choć,ačkoli,хотя,хоча,αν και",
    r"ενώ,رغم,हालाँकि,mặc dù",
    r"meskipun,虽然,雖然,尽管,儘管,แม้",
)
# A conclusion, which no earlier negation concerns.
CONCLUSION = words(
    r"so,therefore,thus,hence,daher,folglich,also,donc,por lo tanto,por tanto,quindi,portanto,dus,alltså",
    r"derfor,zatem",
    r"следовательно,поэтому,итак,لذلك,इसलिए,所以,因此,따라서,그러므로",
)
# A first thought, which a later clause replaces.
FIRST_THOUGHT = words(
    r"resembl\w+,similar to,initially,at first,originally,first thought,first glance,zuerst,zunächst",
    r"anfangs,d'abord,au début",
    r"al principio,inizialmente,a princípio,сначала,сперва",
    "最初,起初,一开始,처음",
)
# A correction of the statement before.
CORRECTION = (
    r"(?:\bno,?\s+)?\bwait\b(?=\s*[,.!—–:-]|\s+no\b|\s+[a-z]\b)|\bscratch that\b|\bcorrection\s*:|"
    r"\bon second thoughts?\b|(?:(?<=\.\.\.)|(?<=…))\s*no(?=[,!])"
    r"|(?:(?<=^)|(?<=\n)|(?<=[.!] ))actually(?=,)"
)
COMPARISON = words("than,over,als,als,que,than,чем,över")
# A new statement within a sentence.
RESTART = (
    words(
        r"it'?s,it is,this is,that'?s,that is,they are,there is,there'?s,c'est,es ist,das ist,è,é,это,to jest",
        r"det är,det er,het is,είναι",
    )
    + r"|(?<![不还還只都也就若如而])是"
)
CONJUNCTION = (
    words(
        r"or,nor,and,oder,noch,und,ou,et,ni,o,y,e,u,né,nem,of,en,eller,och,og,ani,lub,albo,i,nebo,sau,și,vagy,és",
        r"tai,ja,или,и,ни,або,чи,ή,και,veya,ve,أو,و,או,या,और,hoặc,và,atau,dan",
    )
    + "|[/&]|或者|或|和|跟|및|또는|と|や|หรือ"
)
# Words in which a reply says that it does not know, or will not answer.
UNSURE = words(
    r"sure,certain,unsure,uncertain,unclear,unable,unknown,know,tell,determine,determined,identify,discern",
    r"decide,not clear,confident,sorry,apologi[sz]e,apologies,assist,help",
    r"impossible to,not possible,hard to say,difficult to say,insufficient,not enough,ambiguous,maybe,perhaps",
    r"depends,might,could be,either way",
    r"weiß,weiss,sicher,unsicher,erkennen,bestimmen,beurteilen,tut mir leid,helfen,unklar,vielleicht,sais,sûre?",
    r"certaine?,désolée?,peux,peut-être,impossible de,déterminer,aider",
    r"sé,segur[oa],lo siento,puedo,determinar,ayudar,quizás?,tal vez,sei,cert[oa] se,desculpe,posso,ajudar",
    r"talvez,sicur[oa],spiace,aiutare,forse,weet,zeker,misschien,helpen",
    r"vet,säker,kanske,ved,sikker,måske,wiem,pewn\w+,przykro,może,nevím,jist\w+,možná,știu,sigur,poate,tudom",
    r"biztos,talán,tiedä,varma,ehkä",
    r"знаю,уверен\w*,сказать,определить,могу,возможно,помочь,извините,знам,знае,ξέρω,σίγουρ\w+,ίσως,λυπάμαι",
    r"أعرف,أعلم,متأكد\w*,أستطيع,يمكنني,آسف,ربما,יודע,יודעת,בטוח,בטוחה,מצטער,אולי",
    r"पता,जानता,निश्चित,माफ़,शायद,सकता,bilmiyorum,emin,üzgünüm,belki,söyleyemem,biết,chắc,xin lỗi,có lẽ,tahu",
    r"yakin,maaf,mungkin,najui,alam,siguro",
    "不知道,不确定,不確定,无法,無法,不能,不清楚,看不清,抱歉,对不起,對不起,也许,可能,難以,难以,わかりません,分かりません,わからない,できません,すみません,申し訳,見えません,見えない,かもしれ",
    "모르,확실하지,죄송,수 없,아마,ไม่แน่ใจ,ไม่ทราบ,ไม่รู้,ขอโทษ,ไม่สามารถ",
)
YES = words(
    r"yes,yeah,yep,yup,yea,yess,aye,uh-huh,mm-hmm,affirmative,sure,certainly,absolutely,definitely,indeed",
    r"of course,correct,true,right,exactly,precisely,undoubtedly",
    r"most certainly,most definitely,auf jeden fall,selbstverständlich,allerdings,absolument,tout à fait,así es",
    r"desde luego,com certeza",
    r"indubbiamente,senz'altro,oczywiście,samozřejmě,természetesen,tietysti,безусловно,звичайно,tabii ki,tentu",
    r"tentu saja,بالتأكيد,بالطبع,طبعا,बिल्कुल",
    r"ja,jawohl,jo,jep,doch,klar,natürlich,sicher,stimmt,richtig,wahr,oui,ouais,si,bien sûr,certainement,vrai",
    r"sí,claro,cierto,correcto,verdadero,por supuesto,efectivamente",
    r"sim,certo,verdadeiro,correto,sì,certo,certamente,vero,esatto,corretto,klopt,zeker,inderdaad,jazeker,juist",
    r"jo,japp,jepp,jajamän,absolut,tak,owszem,zgadza się,prawda,ano,jasně,pravda,áno,da,desigur,adevărat",
    r"igen,persze,kyllä,joo,juu,jah,jā,taip,да,ага,конечно,верно,правда,так,ναι,βεβαίως,σωστά,evet,tabii",
    r"elbette,doğru,نعم,أجل,بلى,ايوه,صحيح,بله,آری,כן,בהחלט,נכון,हाँ,हां,जी हाँ,जी हां,जी,सही,হ্যাঁ,হা,ஆம்,అవును",
    r"có,vâng,dạ,đúng,đúng vậy,phải,ya,iya,betul,benar,ndiyo,ndio,naam,oo,opo,bai,sí,да така,ja visst,áno",
    "是的,是,对的,对,對的,對,没错,沒錯,当然,當然,正确,正確,有的,有,もちろん,その通り,물론,물론입니다,はい,ええ,うん,そうです,その通り,그렇습니다,그래요,맞습니다,맞아요,네,예,응,ใช่",
    "ครับ,ค่ะ,ถูกต้อง",
    r"✓,✔,✅,☑,👍",
)
NO = words(
    r"no,nope,nah,nay,negative,not at all,not really,not quite,no way,by no means,in no way",
    r"under no circumstances,not that i can (?:see|tell),false,incorrect,wrong,untrue,hardly,never",
    r"nein,nö,nee,ne,nicht,keineswegs,falsch,unwahr,non,nan,pas du tout,faux,incorrecto,falso,incorrecta",
    r"en absoluto,não,nao,errado,incorreto,falso,sbagliato,falso,errato,auf keinen fall,keinesfalls,neen,niet",
    r"onjuist,onwaar,fout",
    r"nej,inte,nei,ikke,fel,falskt,nie,nieprawda,fałsz,ne,nepravda,nu,fals,nem,hamis,ei,eikä,nē,нет,не,неа",
    r"неверно,ложь,неправда,ні,όχι,λάθος,hayır,değil,yok,yanlış,لا,كلا,خطأ,خیر,نه,לא,नहीं,नही,जी नहीं,ना,गलत,না",
    r"இல்லை,కాదు",
    r"không,không phải,sai,tidak,bukan,nggak,enggak,salah,hapana,siyo,la,hindi,ez,hayir",
    "不是,不是的,不对,不對,没有,沒有,并非,不,否,错误,错,错的,假的,いいえ,いえ,いや,ううん,違います,違う,ちがいます,아니요,아니오,아뇨,아니,아닙니다,틀렸습니다,ไม่ใช่,ไม่,เปล่า",
    r"✗,✘,❌,❎,👎",
)
# Affirmation that contains a negation.
IDIOMS = re.compile(
    r"(?:there is |there'?s |without |with |have |i have )?(?:no|any|a|the slightest)? ?(?:doubts?|"
    r"question)(?: about (?:it|that))?(?: that)?(?=[\s,.;:!]|$)"
    r"|no (?:problem|worries|wonder)|not only|nothing (?:else )?(?:but|other than)|none other than|"
    r"(?:can|could)(?:no|')?t be anything (?:but|other than)"
    r"|ohne zweifel|kein zweifel|nicht nur|sans (?:aucun )?doute|pas seulement|sin (?:ninguna )?duda|"
    r"no (?:sólo|solo)|sem (?:sombra de )?dúvida|senza (?:alcun )?dubbio|не только|без сомнения|"
    r"毫无疑问|無疑|无疑|不仅|不僅|間違いなく|틀림없이"
)
# Words that answer alone, whatever follows them; the others of YES and NO need a comma or an end after them.
PLAIN_ANSWER = words(
    r"yes,yeah,yep,yup,no,nope,nah,nein,ja,oui,non,não,nao,sim,sí,sì,nej,nei,nie,ano,nem,igen,kyllä,нет,да,ні",
    r"όχι,ναι,evet,hayır",
    r"نعم,لا,כן,לא,हाँ,हां,नहीं,tidak,bukan,không",
)
YES_OR_NO = re.compile(
    r"(?<!\w)(?:yes\s*(?:/|or)\s*no|ja\s*(?:/|oder)\s*nein|oui\s*(?:/|ou)\s*non|s[ií]\s*(?:/|o)\s*no|"
    r"sim\s*(?:/|ou)\s*não|да\s*(?:/|или)\s*нет)(?!\w)|是\s*(?:/|或)\s*否"
)
# Letters of the alphabets in which options are numbered elsewhere; look-alikes of Latin letters with another place in
# their own alphabet, such as the Cyrillic В, name no option for certain.
ALPHABETS = ("абвгде", "αβγδε", "אבגדה", "أبجده", "ابجده", "कखगघङ", "가나다라마", "甲乙丙丁戊", "アイウエオ", "กขคงจ")
LOOKALIKES = {
    "с": "c",
    "к": "k",
    "м": "m",
    "т": "t",
    "н": "h",
    "р": "p",
    "ι": "i",
    "κ": "k",
    "μ": "m",
    "ν": "n",
    "о": "o",
}
UNCERTAIN_LETTERS = "в"
