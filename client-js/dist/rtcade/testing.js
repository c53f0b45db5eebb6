/*! rtcade: MIT OR Apache-2.0 */
import{connect as r}from"../rtcade.js";var o=(o,e,t)=>r(o,{...e,[Symbol.for("rtcade.environment")]:t});export{o as connect};
